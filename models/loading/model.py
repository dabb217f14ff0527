"""Loads the model that the recipe names: from timm, torchvision or code of the user's."""

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paredown.models.errors import InputError, ParedownError
from paredown.models.files import digest_file, is_file, package_folder, resolve_path
from paredown.models.loading.code_places import fault_of
from paredown.models.loading.factory import from_factory
from paredown.models.loading.kept_settings import own_random_state
from paredown.models.loading.libraries import download_weights, from_library
from paredown.models.loading.source_files import digest_sources
from paredown.models.loading.spec import PACKAGED, ModelSpec, is_code
from paredown.models.loading.user_code import find_source

if TYPE_CHECKING:
    from torch import nn

    from paredown.models.loading.state_places import FoundState

Head = Literal["keep", "replace"]
_SIDES = (64, 224)
"""Pixels that are tried where nobody says for which images a model is."""


@dataclass(frozen=True)
class LoadedModel:
    """A module in evaluation mode on the CPU, and lines about how it came to be that a person should read."""

    module: "nn.Module"
    notes: tuple[str, ...] = ()


def load_model(spec: ModelSpec, classes: int, root: Path, *, head: Head, side: int | None = None) -> "nn.Module":
    """The module of `open_model`."""
    return open_model(spec, classes, root, head=head, side=side).module


def open_model(spec: ModelSpec, classes: int, root: Path, *, head: Head, side: int | None = None) -> LoadedModel:
    """The model in eval mode, with its weights, on the CPU, in float32; wrappers are taken off, masks and norms of
    weights made permanent. `side` is that of the images in pixels.

    `head="keep"` demands a model of `classes` classes; `head="replace"` gives it a fresh head where its own
    has another class count. Fresh weights do not depend on, or change, any random state. Downloads only
    where `weights` is `hub`. Raises InputError for everything in the recipe that does not fit, with the place in the
    user's code where that fails.
    """
    import torch  # noqa: F401  # before its random state is put aside

    with own_random_state():
        try:
            return _opened(spec, classes, root, head, side)
        except ParedownError:
            raise
        except Exception as error:
            raise InputError(f"model '{spec.source}' cannot be loaded: {fault_of(error)}") from error


def _opened(spec: ModelSpec, classes: int, root: Path, head: Head, side: int | None) -> LoadedModel:
    from paredown.models.loading.checkpoint import fit_state
    from paredown.models.loading.plain_modules import composed, in_evaluation_mode, make_permanent, untie

    module, notes, classifier = _built(spec.source, classes, root, side), list[str](), None
    found = _read_weights(spec, root)
    in_parts = found is not None and set(module.state_dict()) <= {*found.state}
    made = [] if in_parts else make_permanent(module)
    if is_code(spec.source):
        classifier = _adapt_head(module, classes, head, spec, side)
    elif found is not None:
        classifier = _classifier(module, spec, side)
    if found is not None:
        state = found.state if in_parts else composed(found.state)
        notes += [*found.notes, *fit_state(module, state, classes, head, str(spec.weights), classifier)]
        made += make_permanent(module)
    if shared := untie(module):
        text = f"{shared[0]}{f' and {len(shared) - 1} more' if len(shared) > 1 else ''} shared their values"
        notes.append(f"model '{spec.source}': {text}; each has its own from here on, and is pared down by itself")
    if made:
        notes.append(f"model '{spec.source}': made permanent in its weights: {', '.join(dict.fromkeys(made))}")
    return LoadedModel(in_evaluation_mode(module), tuple(notes))


def _built(source: str, classes: int, root: Path, side: int | None) -> "nn.Module":
    """The module as its maker made it, without wrappers; its lazy layers have been run once."""
    if not is_code(source):
        return from_library(source, classes)
    from paredown.models.loading.classifier import run_once
    from paredown.models.loading.plain_modules import is_lazy, plain_module

    module = plain_module(from_factory(source, classes, root), source)
    if is_lazy(module):
        run_once(module, side or _SIDES[0], f"model '{source}'")
    return module


def _adapt_head(module: "nn.Module", classes: int, head: Head, spec: ModelSpec, side: int | None) -> str | None:
    """Gives a model that was not told the number of classes a head that has it, or refuses it; the classifier's name.

    The classifier is the layer whose outputs are the model's; where that cannot be told, the last one defined.
    """
    from paredown.models.loading.classifier import classifier_heads, classifier_name, output_count, resize_head

    heads, source = classifier_heads(module), spec.source
    name = _classifier(module, spec, side)
    if name is None and classifier_name(module, classes) is None:
        name = next(reversed(heads), None)
    if name is None or output_count(heads[name]) == classes:
        return name
    if head == "keep":
        text = f"{output_count(heads[name])} classes at '{name}', the data has {classes}: a `fit` stage adapts it"
        raise InputError(f"model '{source}': {text}")
    if not name:
        raise InputError(f"model '{source}' is one layer of {output_count(heads[name])} outputs, for {classes} classes")
    resize_head(module, name, classes)
    _refuse_other_width(module, classes, spec, name, side)
    return name


def _classifier(module: "nn.Module", spec: ModelSpec, side: int | None) -> str | None:
    """The layer whose outputs are the model's; None where none is. Raises InputError where it cannot run at `side`."""
    from paredown.models.loading.classifier import find_classifier
    from paredown.models.loading.plain_modules import copied

    tried_on, where = copied(module, spec.source), f"model '{spec.source}'"
    if side is not None:
        return find_classifier(tried_on, side, where, spec.output)
    for tried in _SIDES:
        try:
            return find_classifier(tried_on, tried, where, spec.output)
        except InputError:
            continue
    return None


def _refuse_other_width(module: "nn.Module", classes: int, spec: ModelSpec, name: str, side: int | None) -> None:
    """Refuses a head that does not make the model answer `classes` numbers; where its answer is not clear, that is seen
    elsewhere (`models.network.answers`)."""
    from paredown.models.loading.classifier import run_once
    from paredown.models.loading.plain_modules import copied
    from paredown.models.loading.returned import main_tensor

    if side is None:
        return
    where = f"model '{spec.source}', with {classes} outputs at '{name}',"
    answer = main_tensor(run_once(copied(module, spec.source), side, where), spec.output)
    if answer is not None and (answer.ndim < 2 or answer.shape[1] != classes):
        text = f"answers {tuple(answer.shape)} with {classes} outputs at '{name}'"
        raise InputError(f"model '{spec.source}' {text}: let its factory take the number of classes")


def fingerprint_model(spec: ModelSpec, root: Path) -> str:
    """sha256 over the spec, the weights file, and the factory's file with all files of the user's that it imports, or
    the library's version. What a factory reads when it runs is not covered: see `fingerprint_built`."""
    parts = [spec.model_dump_json()]
    if is_code(spec.source):
        source = find_source(spec.source, root)
        parts.append(digest_sources(source.file, source.folders))
    else:
        parts.append(metadata.version(spec.source.partition("/")[0]))
    if spec.weights not in (None, "hub"):
        parts.append(_checked_digest(spec, weights_path(spec, root)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint_built(spec: ModelSpec, classes: int, root: Path, side: int) -> str:
    """sha256 over the modules and tensors of the model that code of the user's builds, so that files which it reads
    count too; empty for a library's model, which its version and its weights decide."""
    if not is_code(spec.source):
        return ""
    from paredown.models.loading.built_model import digest_built_model

    return digest_built_model(load_model(spec, classes, root, head="replace", side=side))


def weights_path(spec: ModelSpec, root: Path) -> Path:
    """The weights file, which must exist. Raises MissingError where its package is not installed."""
    packaged = PACKAGED.fullmatch(spec.weights or "")
    path = package_folder(packaged[1]) / packaged[2] if packaged else resolve_path(spec.weights or "", root)
    if packaged and ".." in path.parts:
        raise InputError(f"weights '{spec.weights}': '..' is not allowed inside a package")
    if not is_file(path):
        raise InputError(f"{path}: no such weights file")
    return path


def _checked_digest(spec: ModelSpec, path: Path) -> str:
    digest = digest_file(path)
    if spec.sha256 and not digest.startswith(spec.sha256.lower()):
        raise InputError(f"{path}: sha256 is {digest}, the recipe says {spec.sha256}")
    return digest


def _read_weights(spec: ModelSpec, root: Path) -> "FoundState | None":
    from paredown.models.loading.checkpoint import read_checkpoint
    from paredown.models.loading.state_places import FoundState

    if spec.weights is None:
        return None
    if spec.weights == "hub":
        return FoundState(download_weights(spec.source))
    path = weights_path(spec, root)
    if spec.sha256:
        _checked_digest(spec, path)
    return read_checkpoint(path, spec.weights_key)
