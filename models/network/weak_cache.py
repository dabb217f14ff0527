"""A cache of results per object that does not keep the object alive."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")
P = ParamSpec("P")
R = TypeVar("R")


def remembered_per_object(function: Callable[Concatenate[Owner, P], R]) -> Callable[Concatenate[Owner, P], R]:
    """Like functools.cache, but results go with the first argument: a search sees many networks, all with weights."""
    by_owner: WeakKeyDictionary[Any, dict[Any, R]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(owner: Owner, *args: P.args, **kwargs: P.kwargs) -> R:
        results = by_owner.setdefault(owner, {})
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            results[key] = function(owner, *args, **kwargs)
        return results[key]

    return remembered  # type: ignore[return-value]
