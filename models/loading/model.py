"""Loads the model that the recipe names: from timm, torchvision or a file of the user's."""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file, package_folder, resolve_path
from paredown.models.loading.factory import Head, from_factory
from paredown.models.loading.libraries import download_weights, from_library
from paredown.models.loading.spec import FILE, PACKAGED, ModelSpec
from paredown.models.loading.user_code import split_source

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_model(spec: ModelSpec, classes: int, root: Path, *, head: Head) -> "nn.Module":
    """The model in eval mode, with its weights, on the CPU.

    `head="keep"` demands a model of `classes` classes; `head="replace"` gives it a fresh head where its own
    has another class count. Fresh weights do not depend on, or change, torch's random state. Downloads only
    where `weights` is `hub`. Raises InputError for everything in the recipe that does not fit.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        from_file = FILE.fullmatch(spec.source)
        model = from_factory(spec.source, classes, root, head) if from_file else from_library(spec.source, classes)
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


def _read_weights(spec: ModelSpec, root: Path) -> "dict[str, Tensor] | None":
    from paredown.models.loading.checkpoint import read_state

    if spec.weights is None:
        return None
    if spec.weights == "hub":
        return download_weights(spec.source)
    path = weights_path(spec, root)
    if spec.sha256:
        _checked_digest(spec, path)
    return read_state(path)
