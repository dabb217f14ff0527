"""Runs Python files that a recipe names, once per content, and finds functions in them."""

import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from paredown.models.errors import InputError
from paredown.models.files import is_file, resolve_path
from paredown.models.loading.moved_names import with_new_names

NOT_IMPORTED = "{path} cannot be imported: {kind}: {error}"
NOT_RUN = "{path}: {kind} while running it: {error}"

_log = logging.getLogger("paredown")


def split_source(source: str, root: Path) -> tuple[Path, str]:
    """`path/to/file.py:function` as the file, which must exist, and the function's name."""
    file, _, name = source.rpartition(":")
    path = resolve_path(file, root)
    if not is_file(path):
        raise InputError(f"{path}: no such file (from '{source}')")
    return path, name


def load_function(source: str, root: Path) -> Callable[..., Any]:
    """The function (or class) of `path/to/file.py:function`."""
    path, name = split_source(source, root)
    function = getattr(run_file(path, NOT_RUN), name, None)
    if not callable(function):
        raise InputError(f"{path}: no function '{name}' in it")
    return function  # type: ignore[no-any-return]


def run_file(path: Path, complaint: str = NOT_IMPORTED) -> ModuleType:
    """The module that a file makes; raises InputError with the `complaint` in one line where running it fails.

    Only that file is run: the import path stays as it is, and no byte code is written beside the file. An
    unchanged file is run once per process, so that its classes stay the same. Imports by names that paredown had
    before it was rearranged are taken from where they are now, with one warning.
    """
    text = path.read_bytes()
    digest = hashlib.sha256(str(path.resolve()).encode() + b"\0" + text).hexdigest()[:16]
    name = f"paredown_code_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses, pydantic and torch look a class's module up there
    try:
        tree, moved = with_new_names(text, str(path))
        if moved:
            _log.warning("%s imports by old names, which the next version will not know: %s", path, "; ".join(moved))
        exec(compile(tree, str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise InputError(complaint.format(path=path, kind=type(error).__name__, error=error)) from error
    return module
