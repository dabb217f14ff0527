"""Loads the model that the recipe names: from timm, torchvision or a file of the user's."""

import hashlib
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from paredown.models.errors import InputError, ParedownError
from paredown.models.files import digest_file, is_file, package_folder, resolve
from paredown.models.loading.user_code import load_function, split_source
from paredown.models.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

Head = Literal["keep", "replace"]

LIBRARY = re.compile(r"(timm|torchvision)/[\w.\-]+")
FILE = re.compile(r".+\.py:[^\W\d]\w*")
PACKAGED = re.compile(r"package:([^\W\d]\w*)/(.+)")
SUFFIXES = (".pth", ".pt", ".th", ".safetensors")


class ModelSpec(Spec):
    """The model to pare down."""

    source: str = Field(
        description="`timm/<name>`, `torchvision/<name>` or `path/to/file.py:factory`: a function that "
        "returns the model and is given the number of classes if it takes it; paths start at the recipe"
    )
    weights: str | None = Field(
        default=None,
        description="`hub` (downloads the library's own pretrained weights), a .pth, .pt, .th or "
        ".safetensors file, or `package:<module>/<path inside it>`; left out: as the factory made them",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-fA-F]{8,64}$",
        description="digest of the weights file, or its first 8 or more hex digits; checked before loading",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        library, weights = LIBRARY.fullmatch(self.source), self.weights
        if not library and not FILE.fullmatch(self.source):
            allowed = "timm/<name>, torchvision/<name> or path/to/file.py:factory"
            raise ValueError(f"source '{self.source}': use {allowed}")
        if weights == "hub" and not library:
            raise ValueError("weights 'hub' go with timm/<name> and torchvision/<name> only")
        if weights not in (None, "hub") and not str(weights).endswith(SUFFIXES):
            raise ValueError(f"weights '{weights}': use hub or a file that ends in {', '.join(SUFFIXES)}")
        if self.sha256 and weights in (None, "hub"):
            raise ValueError("sha256 needs a weights file to check")
        return self


@cache
def quiet_torchvision() -> object:
    """Makes torchvision importable where its compiled operators do not load; call it before the import.

    A torchvision wheel that was built for another torch (such as a CUDA wheel beside a CPU torch) cannot load
    its operators, and then fails to import because it registers shapes for two of them. They are for object
    detection only, so declaring them is enough. Does nothing where the operators load. Returns the library
    object, cached, because the declarations live as long as it does.
    """
    torch: Any = import_module("torch")
    found = find_spec("torchvision")
    for folder in (found.submodule_search_locations if found else None) or ():
        for binary in sorted(Path(folder).glob("_C.*")):
            try:
                torch.ops.load_library(str(binary))
            except OSError:
                continue
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def load_model(spec: ModelSpec, classes: int, root: Path, *, head: Head) -> "nn.Module":
    """The model in eval mode, with its weights, on the CPU.

    `head="keep"` demands a model of `classes` classes; `head="replace"` gives it a fresh head where its own
    has another class count. Fresh weights do not depend on, or change, torch's random state. Downloads only
    where `weights` is `hub`. Raises InputError for everything in the recipe that does not fit.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _build(spec, classes, root, head)
        state = _read_weights(spec, root)
    if state is not None:
        from paredown.models.loading.checkpoint import fit_state

        fit_state(model, state, classes, head, str(spec.weights))
    return model.eval()


def fingerprint_model(spec: ModelSpec, root: Path) -> str:
    """sha256 over the spec, the weights file, and the factory's file or the library's version.

    Other files that a factory's file imports or reads are not covered.
    """
    parts = [spec.model_dump_json()]
    if FILE.fullmatch(spec.source):
        parts.append(digest_file(split_source(spec.source, root)[0]))
    else:
        parts.append(metadata.version(spec.source.partition("/")[0]))
    if spec.weights not in (None, "hub"):
        parts.append(_checked_digest(spec, weights_path(spec, root)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_path(spec: ModelSpec, root: Path) -> Path:
    """The weights file, which must exist. Raises MissingError where its package is not installed."""
    packaged = PACKAGED.fullmatch(spec.weights or "")
    path = package_folder(packaged[1]) / packaged[2] if packaged else resolve(spec.weights or "", root)
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


def _read_weights(spec: ModelSpec, root: Path) -> "dict[str, Tensor] | None":
    from paredown.models.loading.checkpoint import read_state

    if spec.weights is None:
        return None
    if spec.weights == "hub":
        return _download(spec.source)
    path = weights_path(spec, root)
    if spec.sha256:
        _checked_digest(spec, path)
    return read_state(path)


def _build(spec: ModelSpec, classes: int, root: Path, head: Head) -> "nn.Module":
    if FILE.fullmatch(spec.source):
        return _from_file(spec.source, classes, root, head)
    quiet_torchvision()
    library, _, name = spec.source.partition("/")
    try:
        return _from_timm(name, classes) if library == "timm" else _from_torchvision(name, classes)
    except ParedownError:
        raise
    except Exception as error:
        raise InputError(f"model '{spec.source}': {type(error).__name__}: {error}") from error


def _from_timm(name: str, classes: int) -> "nn.Module":
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model


def _from_torchvision(name: str, classes: int) -> "nn.Module":
    models: Any = import_module("torchvision.models")
    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names)
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return model


def _download(source: str) -> "dict[str, Tensor]":
    library, _, name = source.partition("/")
    try:
        if library == "timm":
            import timm

            return dict(timm.create_model(name, pretrained=True).state_dict())
        models: Any = import_module("torchvision.models")
        return dict(models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True))
    except Exception as error:
        text = f"model '{source}': no pretrained weights to be had ({type(error).__name__}: {error})"
        raise InputError(text) from error


def _unknown(library: str, name: str, names: Sequence[str]) -> InputError:
    close = ", ".join(get_close_matches(name, names)) or "nothing like it"
    return InputError(f"model '{library}/{name}': {library} has no such image classifier; it has {close}")


def _from_file(source: str, classes: int, root: Path, head: Head) -> "nn.Module":
    from torch import nn

    quiet_torchvision()  # the file may import it
    factory = load_function(source, root)
    try:
        model = _call(factory, classes)
    except Exception as error:
        raise InputError(f"model '{source}' raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model '{source}' returned {type(model).__name__}, not a torch.nn.Module")
    _adapt_head(model, classes, head, source)
    return model


def _call(factory: Callable[..., Any], classes: int) -> Any:
    """Calls `factory(classes)` if it has a parameter for it: one of that name, or one that it demands."""
    given = signature(factory).parameters
    for name in ("classes", "num_classes"):
        if name in given:
            return factory(**{name: classes})
    positional = [p for p in given.values() if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    return factory(classes) if any(p.default is Parameter.empty for p in positional) else factory()


def _adapt_head(model: "nn.Module", classes: int, head: Head, source: str) -> None:
    """A factory that is not told the classes has its own: the width of its last layer, if that is a head."""
    from paredown.models.loading.checkpoint import classifier, heads, output_count, resize_head

    name, last = next(reversed(heads(model).items()), ("", None))
    if last is None or output_count(last) == classes:
        return
    if head == "replace":
        resize_head(model, name, classes)
    elif classifier(model, classes) is None:
        text = f"{output_count(last)} classes at '{name}', the data has {classes}: a `fit` stage adapts it"
        raise InputError(f"model '{source}': {text}")
