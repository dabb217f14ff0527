"""What a built model is, as a digest: its modules, their settings and their tensors."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paredown.models.loading.code_places import is_library

_CHANGING = ("training",)


def digest_module(module: nn.Module) -> str:
    """sha256 over the names, classes and plain settings of all modules inside, the bytes of all their tensors, and the
    user's files that their classes are in. The module's code beyond these files is not covered."""
    digest = hashlib.sha256()
    files = set[str]()
    for name, inner in module.named_modules(remove_duplicate=False):
        kind = type(inner)
        digest.update(f"{name} {kind.__qualname__}\n".encode())
        for line in _settings(vars(inner)):
            digest.update(line)
        files.update(_user_file(kind))
    for content in sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files):
        digest.update(content.encode())
    return digest.hexdigest()


def _settings(held: Mapping[str, Any]) -> Iterator[bytes]:
    """What a module's attributes say, in bytes: plain values and tensors, also in lists and dicts."""
    for name, value in sorted(held.items()):
        if name not in _CHANGING and name != "_modules":
            for part in _plain(value):
                yield f"{name} ".encode() + part


def _plain(value: Any) -> Iterator[bytes]:
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        yield repr(value).encode()
    elif isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        yield f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + tensor.flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        for key in value:
            yield from (f"{key} ".encode() + part for part in _plain(value[key]))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _plain(item)


def _user_file(kind: type) -> Iterator[str]:
    """The file of a class that is no library's."""
    import sys

    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file and not is_library(file):
        yield file
