"""An artifact's measures against the limits of its recipe."""

from collections.abc import Iterator
from dataclasses import replace

from paredown.models.quantity import told_apart
from paredown.stages.limits import Bound, Limits
from paredown.stages.measuring.paired_ratio import PairedRatio
from paredown.stages.measuring.proportions import resolution
from paredown.stages.products.evidence import AccuracyChange, Comparison, Evidence, LatencyEvidence
from paredown.stages.products.interval import CONFIDENCE, Ends, Interval
from paredown.stages.products.manifest import MeasureRatios
from paredown.stages.products.measure_check import MeasureCheck

ROUNDING = 1e-9
"""Points by which sums and differences of accuracies may be off."""
ACCURACY = "test accuracy"


def limit_checks(
    limits: Limits, before: Evidence, after: Evidence, ratios: MeasureRatios, change: AccuracyChange | None = None
) -> tuple[MeasureCheck, ...]:
    """Every measure of original and artifact against the recipe's limit; relative limits are of the original as it was
    measured just now. The artifact's p50 is the original's times their ratio, which was measured in turns.

    A limit holds where the measured value does; with `limits.confidence` where the far end of its interval does. That
    of a factor comes from the interval of the ratio, as what a machine does to both models at once is not in it.
    """
    old, new, sure = _latency(before), _latency(after), limits.confidence is not None
    size = after.size / before.size
    p50 = _measured("latency p50", "ms", old.p50, old.p50 * ratios.latency_p50, old.p50_ends, new.p50_ends)
    tail = _measured("latency p95", "ms", old.p95, new.p95, old.p95_ends, new.p95_ends)
    room = (before.peak_memory, after.peak_memory, before.peak_memory_ends, after.peak_memory_ends)
    file = MeasureCheck(
        "size", "MiB", before.size, after.size, None, None, change=Interval(size, size, size), exact=True
    )
    return (
        _limited(replace(p50, change=ratios.p50), limits.latency_p50, sure),
        _limited(replace(tail, change=ratios.p95), limits.latency_p95, sure),
        _limited(file, limits.size, sure),
        _limited(replace(_measured("peak memory", "MiB", *room), change=ratios.memory), limits.peak_memory, sure),
        _accuracy(before, after, change, limits),
    )


def other_caches_checks(timed: Comparison, ratios: PairedRatio) -> tuple[MeasureCheck, ...]:
    """p50 and p95 with the caches that no limit is about."""
    old, new, caches = timed.before, timed.after, f"{timed.caches} caches"
    p50 = _measured(f"latency p50, {caches}", "ms", old.p50, new.p50, old.p50_ends, new.p50_ends)
    tail = _measured(f"latency p95, {caches}", "ms", old.p95, new.p95, old.p95_ends, new.p95_ends)
    return replace(p50, change=ratios.p50), replace(tail, change=ratios.p95)


def _latency(measured: Evidence) -> LatencyEvidence:
    assert measured.latency is not None
    return measured.latency


def _measured(
    name: str, unit: str, before: float, after: float, before_ends: Ends | None, after_ends: Ends | None
) -> MeasureCheck:
    return MeasureCheck(name, unit, before, after, None, None, before_ends, after_ends)


def _limited(check: MeasureCheck, bound: Bound | None, sure: bool) -> MeasureCheck:
    """The check with its limit and verdict; `sure`: the interval's end must hold."""
    if bound is None or check.before is None or check.after is None:
        return check
    limit, worst = bound.resolve(check.before), check.after
    if bound.unit == "x" and check.change:
        worst = check.before * check.change.high
    elif check.after_ends:
        worst = check.after_ends[1]
    holds = (worst if sure else check.after) <= limit
    remark = f"holds, but {_reaches(check, worst, bound)}" if holds and worst > limit else ""
    return replace(check, limit=limit, worst=worst, holds=holds, remark=remark)


def _reaches(check: MeasureCheck, worst: float, bound: Bound) -> str:
    """`its interval reaches 0.412x, which is over 0.4x`."""
    if bound.unit == "x" and check.change:
        reached, limit = told_apart(check.change.high, bound.value, lambda value, digits: f"{value:.{digits}g}x", 3)
    else:
        reached, limit = told_apart(worst, bound.value, lambda value, digits: f"{value:.{digits}g} {bound.unit}")
    return f"its interval reaches {reached}, which is over {limit}"


def _accuracy(before: Evidence, after: Evidence, change: AccuracyChange | None, limits: Limits) -> MeasureCheck:
    points, ends = (before.accuracy["test"], after.accuracy["test"]), [_test_ends(one) for one in (before, after)]
    check = _measured(ACCURACY, "%", *points, *ends)
    check = replace(check, change=change.points if change else None)
    if limits.accuracy_drop is None:
        return check
    floor, worst = points[0] - limits.accuracy_drop, points[0] + change.points.low if change else points[1]
    holds = (points[1] if limits.confidence is None else worst) >= floor - ROUNDING
    told = (
        [f"holds, but its interval reaches {change.points.low:+.2f} points"]
        if change and holds and worst < floor
        else []
    )
    told += filter(None, [_resolution(limits, change)])
    return replace(check, limit=floor, worst=worst, holds=holds, remark="; ".join(told))


def _test_ends(measured: Evidence) -> Ends | None:
    return (measured.accuracy_ends or {}).get("test")


def _resolution(limits: Limits, change: AccuracyChange | None) -> str:
    """What the test images cannot tell of the limit."""
    if change is None or limits.accuracy_drop is None:
        return ""
    confidence = limits.confidence or CONFIDENCE
    return resolution(limits.accuracy_drop, change.images, change.discordance_seen, confidence)


def missed_limits(checks: tuple[MeasureCheck, ...]) -> Iterator[str]:
    """A line for every limit that does not hold."""
    return (missed_limit(check) for check in checks if check.holds is False)


def missed_limit(check: MeasureCheck) -> str:
    """The line for a limit that does not hold, and what may help; the two numbers in it differ as they are written."""
    assert check.after is not None and check.limit is not None
    if check.name == ACCURACY:
        text = _under_floor(check, check.after, check.limit)
        return f"{text}; more epochs in recover, more training images or a looser latency limit would help"
    sure = check.after <= check.limit and check.worst is not None
    value = check.worst if sure and check.worst is not None else check.after
    told, limit = told_apart(value, check.limit, lambda number, digits: f"{number:.{digits}g} {check.unit}")
    text = f"{check.name} {told} is over its limit of {limit}"
    if sure:
        text = f"{check.name} {check.after:.4g} {check.unit} is within its limit of {limit}, {_not_surely(told)}"
    return f"{text}; a larger search.margin would leave more room" if check.name.startswith("latency") else text


def _not_surely(reached: str) -> str:
    return f"but its interval reaches {reached}, and limits.confidence asks for that end"


def _under_floor(check: MeasureCheck, after: float, limit: float) -> str:
    value = after if after < limit or check.worst is None else check.worst
    told, floor = told_apart(value, limit, lambda number, digits: f"{number:.{digits - 2}f} %")
    if value is after:
        return f"test accuracy {told} is under its floor of {floor}"
    text = f"test accuracy {after:.2f} % is over its floor of {floor}, {_not_surely(told)}"
    return f"{text}: {check.remark}" if check.remark else text
