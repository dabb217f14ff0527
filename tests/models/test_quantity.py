"""Numbers with units."""

import re

import pytest

from paredown.models.quantity import Unit, parse_quantity, quantity_pattern, told_apart


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


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (1.5, 2.0, ("1.5", "2")),
        (89.996, 90.0, ("89.996", "90")),
        (89.9999999, 90.0, ("89.9999999", "90")),
        (8.000001, 8.0, ("8.000001", "8")),
        (2.0, 2.0, ("2", "2")),
        (0.1 + 0.2, 0.3, ("0.30000000000000004", "0.29999999999999999")),
    ],
)
def test_values_that_differ_are_written_so_that_it_shows(one: float, other: float, texts: tuple[str, str]) -> None:
    assert told_apart(one, other, lambda value, digits: f"{value:.{digits}g}") == texts
