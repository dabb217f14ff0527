"""Attributes of a module that are imported when they are first asked for, so that a door costs what goes through it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_attributes(
    module: str, offered: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) for `module`, which offers names of other modules: `offered` maps those to
    their names. Raises AttributeError for all other names, as modules do."""
    homes = {name: home for home, names in offered.items() for name in names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}; allowed: {', '.join(sorted(homes))}")
        return getattr(importlib.import_module(homes[name]), name)

    return get, lambda: sorted(homes)
