"""Numbers with units."""

import re

import pytest

from paredown.models.quantity import Unit, parse_quantity, quantity_pattern


@pytest.mark.parametrize(
    ("written", "units", "parsed"),
    [
        ("4 GiB", ("x", "B"), (4 * 2**30, "B")),
        ("4 GiB", ("x", "ms"), None),
        ("2.5 M", ("", "x"), (2.5e6, "")),
        ("2.5 M", ("x", "ms", "B"), None),
        (" .5x ", ("x",), (0.5, "x")),
        (-3, ("",), (-3, "")),
        ("-1e-3ms", ("ms",), (-0.001, "ms")),
        ("1 MB", ("x", "ms", "B", ""), None),
        ("", ("",), None),
        (True, ("x", ""), None),
        (None, ("x", ""), None),
    ],
)
def test_a_quantity_is_a_number_in_one_of_the_units(
    written: object, units: tuple[Unit, ...], parsed: tuple[float, str] | None
) -> None:
    assert parse_quantity(written, units) == parsed
    assert bool(re.match(quantity_pattern(units), str(written))) == (parsed is not None)
