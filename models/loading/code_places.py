"""Whose code a file is: a library's, paredown's, or the user's; and where in the user's an error arose."""

import os
import sysconfig
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from paredown.models.errors import first_line

_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = ("stdlib", "platstdlib", "purelib", "platlib")
_OWN = ("models", "stages", "pipeline", "typings")
_BETWEEN = f"loading{os.sep}user_imports.py"
"""What stands between an import statement of the user's and what it imports."""


def is_library(file: str) -> bool:
    """Whether a file is of Python, of an installed package or of paredown, and not of the user's. True for code that is
    in no file."""
    return file.startswith("<") or is_own(file) or _is_installed(os.path.realpath(file))


def is_own(file: str) -> bool:
    """Whether a file is one of paredown's."""
    return os.path.realpath(file).startswith(_own_folders())


def _is_installed(file: str) -> bool:
    return any(name in Path(file).parts for name in _INSTALLED) or file.startswith(_standard_folders())


@cache
def _own_folders() -> tuple[str, ...]:
    root = Path(__file__).resolve().parents[2]
    return tuple(f"{root / name}{os.sep}" for name in _OWN)


@cache
def _standard_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(f"{os.path.realpath(paths[name])}{os.sep}" for name in _STANDARD if name in paths)


def user_place(error: BaseException) -> str:
    """`file:line` of the user's code that an error came out of, through the libraries that it called; empty where
    paredown, or a library that it called, is at fault."""
    return next((place for one in _chain(error) if (place := _place(one))), "")


def fault_of(error: BaseException) -> str:
    """What an error says in one line, its type, and the place in the user's code if it came out of that."""
    place = user_place(error)
    said = first_line(error) if isinstance(error, Exception) else str(error)
    text = said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.endswith(_BETWEEN):
            continue
        if is_own(frame.filename):
            return ""
        if not is_library(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
