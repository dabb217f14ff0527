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


def package_of_kind(kind: Kind) -> str:
    """The package whose modules are the plugins of a kind that come with paredown."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return "paredown.stages" if kind == "stages" else f"paredown.stages.{kind}"


def kind_in_singular(kind: Kind) -> str:
    return kind.removesuffix("s")


@cache
def checked_plugin(kind: Kind, plugin: Any, name: str) -> type[Any]:
    """The class, which keeps the contract of its kind. Raises InputError, one line, with what it lacks.

    One that has the members but not the base class is given the base class behind its own, with a warning: so plugins
    were written before there were base classes, and for a version they still work.
    """
    base, who = base_class(kind), f"the {kind_in_singular(kind)} {name}: {plugin.__name__}"
    if kind != "runtimes" and not issubclass(plugin, Spec):
        raise InputError(f"{who} must be a {_path(base)}")
    cls: type[Any] = plugin if issubclass(plugin, base) else _with_base(plugin, kind)
    if lacking := _lacking(cls, base):
        raise InputError(f"{who} lacks {', '.join(lacking)}")
    if other := [method for method in _methods(base) if not _takes(getattr(cls, method), getattr(base, method))]:
        wanted = ", ".join(inspect.signature(getattr(base, other[0])).parameters)
        raise InputError(f"{who}.{other[0]} must take {wanted}")
    if cls is not plugin:
        if kind == "transforms" and "engine" in plugin.model_fields:
            raise InputError(f"{who} lacks engine_of_int8: an option `engine` alone names no engine any more")
        _log.warning("%s must be a %s; that it only has the members will no longer do", who, _path(base))
    return cls


@cache
def _with_base(plugin: Any, kind: Kind) -> Any:
    same = {"__module__": plugin.__module__, "__doc__": plugin.__doc__, "__qualname__": plugin.__qualname__}
    return new_class(plugin.__name__, (plugin, base_class(kind)), exec_body=lambda body: body.update(same))


@cache
def base_class(kind: Kind) -> type[Any]:
    """`Stage`, `Transform`, ...: imported only when a plugin of that kind is loaded."""
    base: type[Any] = getattr(
        importlib.import_module(f"{package_of_kind(kind)}.base"), kind_in_singular(kind).capitalize()
    )
    return base


def _lacking(cls: type[Any], base: type[Any]) -> list[str]:
    """The members without a default that a class does not have, in the base class's order."""
    declared = [field for field in inspect.get_annotations(base) if not hasattr(cls, field)]
    return [*declared, *(method for method in _required(base) if method in cls.__abstractmethods__)]


def _required(base: type[Any]) -> list[str]:
    """The methods without a default, in their order."""
    return [method for method in vars(base) if method in base.__abstractmethods__]


def _methods(base: type[Any]) -> list[str]:
    """All public methods of a base class, with a default or without, in their order."""
    return [name for name, value in vars(base).items() if name[0] != "_" and callable(getattr(base, name, value))]


def _takes(method: Any, wanted: Any) -> bool:
    """Whether a method can be called as the wanted one is: it may call parameters otherwise, and have more defaults."""
    own, others = (list(inspect.signature(one).parameters.values()) for one in (method, wanted))
    free = [parameter for parameter in own if parameter.default is parameter.empty]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in own):
        return True
    return len(own) >= len(others) and len(free) <= len([one for one in others if one.default is one.empty])


def _path(base: type[Any]) -> str:
    return f"{base.__module__}.{base.__name__}"
