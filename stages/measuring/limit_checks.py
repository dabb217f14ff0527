"""An artifact's measures against the limits of its recipe."""

from paredown.models.quantity import told_apart
from paredown.stages.limits import Bound, Limits
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.products.measure_check import MeasureCheck


def limit_checks(limits: Limits, before: Evidence, after: Evidence, p50_ratio: float) -> tuple[MeasureCheck, ...]:
    """Every measure of original and artifact against the recipe's limit; relative limits are of the original as it was
    measured just now. The artifact's p50 is the original's times their ratio, which was measured in turns."""
    old, new = _latency(before), _latency(after)
    drop, points = limits.accuracy_drop, (before.accuracy["test"], after.accuracy["test"])
    floor = None if drop is None else points[0] - drop
    return (
        _check("latency p50", "ms", old.p50, old.p50 * p50_ratio, limits.latency_p50),
        _check("latency p95", "ms", old.p95, new.p95, limits.latency_p95),
        _check("size", "MiB", before.size, after.size, limits.size),
        _check("peak memory", "MiB", before.peak_memory, after.peak_memory, limits.peak_memory),
        MeasureCheck("test accuracy", "%", *points, floor, None if floor is None else points[1] >= floor - 1e-9),
    )


def _check(name: str, unit: str, before: float, after: float, bound: Bound | None) -> MeasureCheck:
    limit = None if bound is None else bound.resolve(before)
    return MeasureCheck(name, unit, before, after, limit, None if limit is None else after <= limit)


def _latency(measured: Evidence) -> LatencyEvidence:
    assert measured.latency is not None
    return measured.latency


def missed_limit(check: MeasureCheck) -> str:
    """The line for a limit that does not hold, and what may help; the two numbers in it differ as they are written."""
    assert check.after is not None and check.limit is not None
    if check.name == "test accuracy":
        after, floor = told_apart(check.after, check.limit, lambda value, digits: f"{value:.{digits - 2}f} %")
        text = f"test accuracy {after} is under its floor of {floor}"
        return f"{text}; more epochs in recover, more training images or a looser latency limit would help"
    after, limit = told_apart(check.after, check.limit, lambda value, digits: f"{value:.{digits}g} {check.unit}")
    text = f"{check.name} {after} is over its limit of {limit}"
    return f"{text}; a larger search.margin would leave more room" if check.name.startswith("latency") else text
