"""Sites that are decided before the search: a transform says which, and the search sees only that candidate of them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from paredown.models.spec import InputError
from paredown.stages.problem import Site
from paredown.stages.structure import sites_of
from paredown.stages.transforms.base import Subject, Transform

T = TypeVar("T")

SHOWN = 3
"""Layers that are named where a pattern matches none."""


def open_sites(subject: Subject, transforms: Sequence[Transform]) -> tuple[Site, ...]:
    """All sites as a search may decide them; of a pinned one the pinned candidate alone is left."""
    pins = {site: name for transform in transforms for site, name in pins_of(subject, transform).items()}
    return tuple(
        _pinned(site, pins[site.name]) if site.name in pins else site for site in sites_of(subject, transforms)
    )


def pins_of(subject: Subject, transform: Transform) -> Mapping[str, str]:
    """Site to the candidate that it must have; a transform without `pinned` leaves all of them free."""
    found: Mapping[str, str] = transform.pinned(subject) if hasattr(transform, "pinned") else {}
    return found


def _pinned(site: Site, name: str) -> Site:
    left = tuple(candidate for candidate in site.candidates if candidate.name == name)
    if not left:
        allowed = ", ".join(candidate.name for candidate in site.candidates)
        raise InputError(f"{site.name} cannot be {name!r}; allowed: {allowed}")
    return replace(site, candidates=left)


def matched(names: Sequence[str], said: Mapping[str, T], option: str, strict: bool = True) -> dict[str, T]:
    """What `said` has for each name: the first key that is the name, or a regular expression for all of it.

    Raises InputError for a key that is no regular expression, or, where `strict`, that fits no name.
    """
    fitting = {key: [name for name in names if name == key or _expression(key, option).fullmatch(name)] for key in said}
    for key, found in fitting.items():
        if strict and not found:
            near = difflib.get_close_matches(key, names, n=SHOWN, cutoff=0.4) or [*names[:SHOWN], "..."]
            raise InputError(f"{option}: {key!r} fits none of the {len(names)} layers; near: {', '.join(near)}")
    return {name: said[key] for key, found in reversed(fitting.items()) for name in found}


def _expression(key: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(key)
    except re.error as error:
        raise InputError(f"{option}: {key!r} is no name and no regular expression: {error}") from error
