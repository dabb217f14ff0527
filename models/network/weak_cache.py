"""Remembered results that go when what they are about goes."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

Subject = TypeVar("Subject")
P = ParamSpec("P")
R = TypeVar("R")


def remembered_per_object(function: Callable[Concatenate[Subject, P], R]) -> Callable[Concatenate[Subject, P], R]:
    """Like functools.cache, but keeps no first argument alive: a search sees many networks, each with its weights."""
    memory: WeakKeyDictionary[Any, dict[Any, R]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(prepared: Subject, *args: P.args, **kwargs: P.kwargs) -> R:
        found = memory.setdefault(prepared, {})
        key = (args, tuple(sorted(kwargs.items())))
        if key not in found:
            found[key] = function(prepared, *args, **kwargs)
        return found[key]

    return remembered  # type: ignore[return-value]
