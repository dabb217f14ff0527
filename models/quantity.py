"""Numbers with units as people write them: `0.5x`, `8 ms`, `4 GiB`, `2.5 M`."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

Unit = Literal["x", "ms", "B", ""]
"""What a quantity is counted in: a factor, milliseconds, bytes, or a plain number."""

_UNITS: Mapping[str, tuple[Unit, int]] = {
    "x": ("x", 1),
    "ms": ("ms", 1),
    "B": ("B", 1),
    "KiB": ("B", 1024),
    "MiB": ("B", 1024**2),
    "GiB": ("B", 1024**3),
    "": ("", 1),
    "K": ("", 10**3),
    "M": ("", 10**6),
    "G": ("", 10**9),
}
"""What may stand behind a number, to the unit and how many of it."""


MOST_DIGITS = 17
"""That a number can have."""


def quantity_pattern(units: Sequence[Unit]) -> str:
    """The regular expression of a number in any of the units; its groups are the number and what stands behind it."""
    behind = "|".join(written for written, (unit, _) in _UNITS.items() if unit in units)
    return rf"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*({behind})\s*$"


def parse_quantity(written: object, units: Sequence[Unit]) -> tuple[float, Unit] | None:
    """`4 GiB` as (4294967296.0, "B"); None for what is no number in any of the units."""
    match = re.match(quantity_pattern(units), str(written))
    if match is None:
        return None
    unit, factor = _UNITS[match[2]]
    return float(match[1]) * factor, unit


def told_apart(one: float, other: float, written: Callable[[float, int], str], digits: int = 4) -> tuple[str, str]:
    """Two values as `written(value, digits)` has them, with as many more digits as it takes to see that they differ.

    Else the line of a limit that is missed by little says that 90.00 % is under 90.00 %.
    """
    for count in range(digits, MOST_DIGITS + 1):
        texts = written(one, count), written(other, count)
        if texts[0] != texts[1] or one == other:
            break
    return texts
