"""What a built model is, as a digest: its modules, their settings and their tensors."""

import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paredown.models.loading.code_places import is_library

_CHANGING = ("training",)


def digest_built_model(module: nn.Module) -> str:
    """sha256 over the names, classes and plain settings of all modules inside, the bytes of all their tensors, and the
    `user_files` that they reach. The module's code beyond these files is not covered."""
    digest = hashlib.sha256()
    for name, inner in module.named_modules(remove_duplicate=False):
        digest.update(f"{name} {type(inner).__qualname__}\n".encode())
        for line in _settings(vars(inner)):
            digest.update(line)
    for content in sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in user_files(module)):
        digest.update(content.encode())
    return digest.hexdigest()


def user_files(module: nn.Module) -> set[str]:
    """The user's files that the module's code is in: those of its classes and of functions and objects that it holds,
    then those of all that these files' own names stand for, whatever way it was imported."""
    files, seen = set[str](), set[int]()
    waiting: list[Any] = [value for inner in module.modules() for value in (type(inner), *vars(inner).values())]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        inside, scopes = _held(value)
        waiting += inside
        for names in scopes:
            file = names.get("__file__")
            if id(names) not in seen and isinstance(file, str) and not is_library(file):
                seen.add(id(names))
                files.add(file)
                waiting += [value for value in names.values() if not _is_below(value, names)]
    return {file for file in files if Path(file).is_file()}


def _held(value: Any) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """Values to look at next, and the names of modules, that a value leads to."""
    if isinstance(value, FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)], [value.__globals__]
    if isinstance(value, ModuleType):
        return [], [vars(value)]
    if isinstance(value, type):
        modules: list[Mapping[str, Any]] = [
            vars(module) for kind in value.__mro__ if (module := sys.modules.get(kind.__module__))
        ]
        return [part for kind in value.__mro__ for part in vars(kind).values()], modules
    if isinstance(value, MethodType | staticmethod | classmethod):
        return [value.__func__], []
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()], []
    if isinstance(value, dict):
        return [*value.values()], []
    if isinstance(value, list | tuple | set | frozenset):
        return [*value], []
    return [type(value)], []


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a name that has no value yet
        return False


def _is_below(value: Any, names: Mapping[str, Any]) -> bool:
    """Whether a value is a module of the package whose names these are: it holds all that anybody imported from it."""
    return isinstance(value, ModuleType) and value.__name__.startswith(f"{names.get('__name__')}.")


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
