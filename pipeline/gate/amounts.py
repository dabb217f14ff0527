"""Values with their units as people read them: `8.43 MiB`, `0.853 ms`."""

from collections.abc import Mapping

from paredown.models.quantity import told_apart

_BYTES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
_COUNTS = ((10**9, "G"), (10**6, "M"))


def readable_amount(value: float, unit: str, digits: int = 4) -> str:
    """`8.43 MiB` for bytes (`B`), `1.21 M` for large counts (no unit), `0.853 ms`, `84.2 %`; small counts are exact.

    `digits` of the value are shown; of a share in % as many as it has with them at two before the point.
    """
    if unit == "B":
        return _scaled(value, _BYTES, "B", digits)
    if unit:
        return f"{value:.{digits}g} {unit}" if unit != "%" else f"{value:.{digits - 2}f} %"
    return _scaled(value, _COUNTS, "", digits).strip()


def amounts_told_apart(unit: str, one: float, other: float) -> tuple[str, str]:
    """Both values as `readable_amount` writes them, with as many digits as it takes to see that they differ."""
    return told_apart(one, other, lambda value, digits: readable_amount(value, unit, digits))


def _scaled(value: float, steps: tuple[tuple[int, str], ...], rest: str, digits: int) -> str:
    for size, name in steps:
        if abs(value) >= size:
            return f"{value / size:.{digits}g} {name}"
    return f"{value:.{digits + 2}g} {rest}"


def machine_in_words(machine: Mapping[str, str]) -> str:
    """The fields of a machine in one line: `cpu AMD EPYC, cores 2`."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())
