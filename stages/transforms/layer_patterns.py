"""Layers by name or regular expression, as transforms' options list them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from paredown.models.errors import InputError

T = TypeVar("T")


SHOWN = 3
"""Layers that are named where a pattern matches none."""


def matched_layers(names: Sequence[str], listed: Mapping[str, T], option: str, strict: bool = True) -> dict[str, T]:
    """What `listed` has for each name: the first key that is the name, or a regular expression for all of it.

    Raises InputError for a key that is no regular expression, or, where `strict`, that fits no name.
    """
    fitting = {
        key: [name for name in names if name == key or _expression(key, option).fullmatch(name)] for key in listed
    }
    for key, matches in fitting.items():
        if strict and not matches:
            near = difflib.get_close_matches(key, names, n=SHOWN, cutoff=0.4) or [*names[:SHOWN], "..."]
            raise InputError(f"{option}: {key!r} fits none of the {len(names)} layers; near: {', '.join(near)}")
    return {name: listed[key] for key, matches in reversed(fitting.items()) for name in matches}


def _expression(key: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(key)
    except re.error as error:
        raise InputError(f"{option}: {key!r} is no name and no regular expression: {error}") from error
