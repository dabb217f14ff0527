"""Measured numbers as people read them: the value, then its interval or `exact` in brackets."""

from collections.abc import Callable, Iterator, Sequence

from paredown.models.printable import printable
from paredown.models.quantity import told_apart
from paredown.pipeline.report.svg import short_number
from paredown.stages.measuring.proportions import accuracy_ends
from paredown.stages.products.interval import CONFIDENCE, Ends
from paredown.stages.products.measure_check import MeasureCheck

EXACT = "exact"
VERDICTS = {True: "holds", False: "MISSED", None: ""}


def with_ends(
    value: float | None,
    ends: Ends | None,
    exact: bool = False,
    number: Callable[[float], str] = short_number,
    unit: str = "",
) -> str:
    """`2.02 (2.001 to 2.043)`, or `8.45 (exact)`; the value alone where no interval is known, a dash without a value.
    The unit, with its space, stands behind the value."""
    if value is None:
        return "-"
    between = EXACT if exact else " to ".join(map(number, ends)) if ends else ""
    return f"{number(value)}{unit}" + (f" ({between})" if between else "")


def original_in_words(check: MeasureCheck) -> str:
    """The original's value."""
    return with_ends(check.before, check.before_ends, check.exact)


def artifact_in_words(check: MeasureCheck) -> str:
    """The artifact's or the plan's value; of a limit that it misses, with as many digits as it takes to see that."""
    return with_ends(check.after, check.after_ends, check.exact, lambda value: _precise(check, value))


def limit_in_words(check: MeasureCheck) -> str:
    """The limit, a dash without one."""
    return "-" if check.limit is None else _precise(check, check.limit)


def _precise(check: MeasureCheck, value: float) -> str:
    missed = check.holds is False and check.after is not None and check.limit is not None
    if not missed or value not in (check.after, check.limit):
        return short_number(value)
    assert check.after is not None and check.limit is not None
    texts = told_apart(check.after, check.limit, short_number)
    return texts[0] if value == check.after else texts[1]


def change_of_measure(check: MeasureCheck) -> str:
    """After over before, or for an accuracy the difference in points, with its interval."""
    if not check.before or check.after is None:
        return "-"
    ends = check.change.ends if check.change else None
    if check.unit == "%":
        points = check.change.value if check.change else check.after - check.before
        return with_ends(points, ends, number=lambda value: f"{value:+.2f}", unit=" points")
    ratio = check.change.value if check.change else check.after / check.before
    return with_ends(ratio, ends, check.exact, lambda value: f"{value:.3f}", "x")


def closing_rows(checks: Sequence[MeasureCheck]) -> list[dict[str, str]]:
    """The table of a terminal: heading to cell, one row per measure."""
    return [
        {
            "measure": printable(f"{check.name} ({check.unit})"),
            "before": original_in_words(check),
            "after": artifact_in_words(check),
            "change": change_of_measure(check),
            "limit": limit_in_words(check),
            "": VERDICTS[check.holds],
        }
        for check in checks
    ]


def remarks(checks: Sequence[MeasureCheck]) -> Iterator[str]:
    """A line for every verdict that rests on something that people should know."""
    return (f"{check.name}: {check.remark}" for check in checks if check.remark)


def interval_note(checks: Sequence[MeasureCheck], confidence: float) -> str:
    """What the brackets of a table are; empty where it has none."""
    if not any(check.before_ends or check.after_ends for check in checks):
        return ""
    return f"in brackets: {100 * confidence:g} % intervals; sizes are exact"


def accuracy_in_words(points: float, images: int, confidence: float = CONFIDENCE) -> str:
    """`84.91 % (81.00 to 88.14)` of so many images."""
    low, high = accuracy_ends(points, images, confidence)
    return f"{points:.2f} % ({low:.2f} to {high:.2f})"
