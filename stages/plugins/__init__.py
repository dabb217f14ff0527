"""Plugins of six kinds by name: those that come with paredown, those of installed packages, and files of a recipe's.

Listing reads the sources and imports nothing, so it is fast and works without the optional dependencies.
"""

from paredown.stages.plugins.kinds import KINDS, Kind
from paredown.stages.plugins.lookup import (
    choices,
    comes_with_paredown,
    load,
    make,
    make_named,
    missing,
    names,
    refused,
    requires,
    sidecar,
    source,
    summary,
)

__all__ = [
    "KINDS",
    "Kind",
    "choices",
    "comes_with_paredown",
    "load",
    "make",
    "make_named",
    "missing",
    "names",
    "refused",
    "requires",
    "sidecar",
    "source",
    "summary",
]
