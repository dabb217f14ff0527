"""Runs Python files that a recipe names, once per content, and finds functions in them."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from paredown.models.errors import InputError
from paredown.models.files import is_file, resolve


def split_source(source: str, root: Path) -> tuple[Path, str]:
    """`path/to/file.py:function` as the file, which must exist, and the function's name."""
    file, _, name = source.rpartition(":")
    path = resolve(file, root)
    if not is_file(path):
        raise InputError(f"{path}: no such file (from '{source}')")
    return path, name


def load_function(source: str, root: Path) -> Callable[..., Any]:
    """The function (or class) of `path/to/file.py:function`.

    Only that file is run: the import path stays as it is, and no byte code is written beside the file. An
    unchanged file is run once per process, so that its classes stay the same.
    """
    path, name = split_source(source, root)
    found = getattr(_run_file(path), name, None)
    if not callable(found):
        raise InputError(f"{path}: no function '{name}' in it")
    return found  # type: ignore[no-any-return]


def _run_file(path: Path) -> ModuleType:
    text = path.read_bytes()
    name = "paredown_code_" + hashlib.sha256(str(path).encode() + b"\0" + text).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and torch look a class's module up there
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path}: {type(error).__name__} while running it: {error}") from error
    return module


def _load_file(file: Path) -> ModuleType:
    """Runs a plugin's file once per content; nothing is written beside it."""
    text = file.read_bytes()
    digest = hashlib.sha256(str(file.resolve()).encode() + b"\0" + text).hexdigest()[:16]
    name = f"paredown_plugin_{file.stem}_{digest}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(file)
        sys.modules[name] = module  # pydantic looks a class's module up there
        try:
            exec(compile(text, str(file), "exec"), vars(module))
        except Exception as error:
            del sys.modules[name]
            raise InputError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return sys.modules[name]
