"""The six kinds of plugin, and the contract that each keeps: the members of its base class."""

import importlib
import inspect
import logging
from functools import cache
from types import new_class
from typing import Any, Literal

from paredown.models.errors import InputError
from paredown.models.spec import Spec

Kind = Literal["stages", "transforms", "blocks", "solvers", "runtimes", "engines"]
KINDS: tuple[Kind, ...] = ("stages", "transforms", "blocks", "solvers", "runtimes", "engines")

_log = logging.getLogger("paredown")


def package(kind: Kind) -> str:
    """The package whose modules are the plugins of a kind that come with paredown."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return "paredown.stages" if kind == "stages" else f"paredown.stages.{kind}"


def singular(kind: Kind) -> str:
    return kind.removesuffix("s")


@cache
def fulfilling(kind: Kind, cls: type[Any], name: str) -> type[Any]:
    """The class, which keeps the contract of its kind. Raises InputError, one line, with what it lacks.

    One that has the members but not the base class is given the base class behind its own, with a warning: so plugins
    were written before there were base classes, and for a version they still work.
    """
    base = base_class(kind)
    if not issubclass(cls, base):
        if kind != "runtimes" and not issubclass(cls, Spec):
            raise InputError(f"the {singular(kind)} {name}: {cls.__name__} must be a {_path(base)}")
        cls = new_class(cls.__name__, (cls, base), exec_body=lambda body: body.update(_same_place(cls)))
        if not _lacking(cls, base):
            _log.warning("%s: from the next version on %s must be a %s", name, cls.__name__, _path(base))
    if lacking := _lacking(cls, base):
        raise InputError(f"the {singular(kind)} {name}: {cls.__name__} lacks {', '.join(lacking)}")
    return cls


@cache
def base_class(kind: Kind) -> type[Any]:
    """`Stage`, `Transform`, ...: imported only when a plugin of that kind is loaded."""
    found: type[Any] = getattr(importlib.import_module(f"{package(kind)}.base"), singular(kind).capitalize())
    return found


def _lacking(cls: type[Any], base: type[Any]) -> list[str]:
    """The members without a default that a class does not have, in the base class's order."""
    declared = [field for field in inspect.get_annotations(base) if not hasattr(cls, field)]
    return [*declared, *(field for field in vars(base) if field in getattr(cls, "__abstractmethods__", ()))]


def _same_place(cls: type[Any]) -> dict[str, Any]:
    return {"__module__": cls.__module__, "__doc__": cls.__doc__, "__qualname__": cls.__qualname__}


def _path(base: type[Any]) -> str:
    return f"{base.__module__}.{base.__name__}"
