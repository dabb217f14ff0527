"""Values with their units as people read them: `8.43 MiB`, `0.853 ms`."""

from collections.abc import Mapping

_BYTES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
_COUNTS = ((10**9, "G"), (10**6, "M"))


def readable_amount(value: float, unit: str) -> str:
    """`8.43 MiB` for bytes (`B`), `1.21 M` for large counts (no unit), `0.853 ms`, `84.2 %`; small counts are exact."""
    if unit == "B":
        return _scaled(value, _BYTES, "B")
    if unit:
        return f"{value:.4g} {unit}" if unit != "%" else f"{value:.2f} %"
    return _scaled(value, _COUNTS, "").strip()


def _scaled(value: float, steps: tuple[tuple[int, str], ...], rest: str) -> str:
    for size, name in steps:
        if abs(value) >= size:
            return f"{value / size:.4g} {name}"
    return f"{value:.6g} {rest}"


def machine_in_words(machine: Mapping[str, str]) -> str:
    """The fields of a machine in one line: `cpu AMD EPYC, cores 2`."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())
