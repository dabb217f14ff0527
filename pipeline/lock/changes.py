"""How two runs differ, from their locks: site by site, and in what they cost and gained."""

from collections.abc import Iterator, Mapping
from typing import Any

from paredown.models.printable import printable
from paredown.pipeline.lock.drift import ABSENT, differences, shown_value
from paredown.pipeline.lock.lock import Lock, LockedMeasure
from paredown.stages.solvers.problem import transform_and_place
from paredown.stages.transforms.base import OTHERWISE
from paredown.stages.transforms.loading import transform_of

LAST = 1000
"""The place of changes without a kind of their own, behind those that transforms have names for."""
ONE_SIDED = {"only in the first": LAST + 1, "only in the second": LAST + 2}
NOISE = 0.02
"""Of a time or of memory: a smaller change says nothing between two runs."""


def sites_by_change_kind(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Kind of change to what changed so, as `block.conv1 64 -> 48`; kinds that did not happen are left out."""
    sites: dict[str, list[str]] = {}
    places = {OTHERWISE: LAST, **ONE_SIDED}
    for site in dict.fromkeys((*then, *now)):
        a, b = then.get(site), now.get(site)
        if a != b:
            place = printable(transform_and_place(site)[1] or site)
            words = f"{place} {printable(a)} -> {printable(b)}" if a and b else f"{place} {printable(a or b or '')}"
            sites.setdefault(change_kind_of(site, a, b), []).append(words)
            places |= transform_of(site).CHANGES
    return {kind: tuple(sites[kind]) for kind in sorted(sites, key=lambda kind: places.get(kind, LAST))}


def change_kind_of(site: str, a: str | None, b: str | None) -> str:
    """What the site's transform calls the change; or in which of the two runs alone it is."""
    if a is None or b is None:
        return "only in the second" if a is None else "only in the first"
    return transform_of(site).change_kind(a, b)


def change_summary(then: Lock, now: Lock, sites: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Whether it is the same file, what became of the plan, and what changed most in cost and quality."""
    total, other = len({*then.plan, *now.plan}), sum(map(len, sites.values()))
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in sites.items())
    plan = f"of {total} sites {other} changed: {counts}" if sites else "the plan is the same"
    yield "The same artifact, byte for byte." if then.artifact == now.artifact else f"Another artifact; {plan}."
    if large := list(_large(then, now)):
        yield f"From the first to the second: {', '.join(large)}."
    missed = [name for name, check in now.checks.items() if check.holds is False]
    if missed:
        yield f"The second misses its limit on {' and '.join(map(printable, missed))}."
    if caches_differ(then, now):
        a, b = then.environment.caches, now.environment.caches
        yield f"The first was timed with {a} caches, the second with {b} ones: their latencies are not compared."
    elif same_original(then, now) and then.environment.machine != now.environment.machine:
        yield "The machines differ: latencies are compared as factors of the original's on the same machine."


def measure_changes(then: Lock, now: Lock) -> Iterator[str]:
    """Every measure of both runs; those that only one of them has are marked so."""
    for name in dict.fromkeys((*then.checks, *now.checks)):
        a, b = then.checks.get(name), now.checks.get(name)
        if a and b:
            comparable = not (a.unit == "ms" and caches_differ(then, now))
            change = _change(a, b, same_original(then, now)) if comparable else "with other caches"
            yield f"{printable(name)}: {_measure(a)} -> {_measure(b)}, {change}"
        else:
            yield f"{printable(name)}: only in the {'first' if a else 'second'}"


def same_original(then: Lock, now: Lock) -> bool:
    """Whether both were compared with the same network, so that factors of its times can be compared."""
    return then.products.get("baseline/model.onnx") == now.products.get("baseline/model.onnx") is not None


def caches_differ(then: Lock, now: Lock) -> bool:
    """Whether one was timed with hot caches and the other with cold ones, so that their times cannot be compared."""
    return then.environment.caches != now.environment.caches


def field_changes(then: Any, now: Any, also: tuple[str, ...] = ()) -> tuple[str, ...]:
    """One line for every field that differs; starts of names in `also` say nothing and are left out."""
    lines = []
    for path, a, b in differences(then, now):
        for start in also:
            path = path.removeprefix(start)
        lines.append(_step(path, a, b))
    return tuple(lines)


def decision_changes(then: Lock, now: Lock) -> tuple[str, ...]:
    """What measurements, machines and solvers decided otherwise, beside the plan."""
    lines = field_changes(then.decisions, now.decisions)
    a, b = then.search, now.search
    if a is None or b is None:
        return lines if a is b else (*lines, f"the plan of the {'first' if a is None else 'second'} came from a lock")
    loss = [f"{one.predicted.get('loss', 0.0):.3g}" for one in (a, b)]
    more = [f"predicted loss: {loss[0]} -> {loss[1]} nats"] if loss[0] != loss[1] else []
    return (*lines, *field_changes({"solver": a.solver}, {"solver": b.solver}), *more)


def _step(name: str, a: Any, b: Any) -> str:
    if a is ABSENT or b is ABSENT:
        return (
            f"{name}: {shown_value(b)}, only in the second"
            if a is ABSENT
            else f"{name}: {shown_value(a)}, only in the first"
        )
    return f"{name}: {shown_value(a)} -> {shown_value(b)}"


def _large(then: Lock, now: Lock) -> Iterator[str]:
    """Changes that are more than noise, the largest first; points of accuracy count as per cents."""
    both = {name: (check, now.checks[name]) for name, check in then.checks.items() if name in now.checks}
    if caches_differ(then, now):
        both = {name: pair for name, pair in both.items() if pair[0].unit != "ms"}
    by_factor = same_original(then, now)
    moved = {name: _moved(a, b, by_factor) for name, (a, b) in both.items()}
    for name in sorted(moved, key=lambda name: -abs(moved[name])):
        if abs(moved[name]) > (0.001 if both[name][0].unit == "%" else NOISE):
            yield f"{printable(name)} {_change(*both[name], by_factor)}"


def _moved(a: LockedMeasure, b: LockedMeasure, by_factor: bool) -> float:
    """Relative; times `by_factor` of the original's own, as milliseconds do not travel."""
    if a.unit == "%":
        return (b.after - a.after) / 100
    if by_factor and a.unit == "ms" and a.before and b.before:
        return (b.after / b.before) / (a.after / a.before) - 1 if a.after else 0.0
    return b.after / a.after - 1 if a.after else 0.0


def _measure(check: LockedMeasure) -> str:
    """`1.14 ms (0.445x of 2.55)`, or `85.8 % (85.2)`."""
    before = f"{check.before:.4g}"
    whole = before if check.unit == "%" or not check.before else f"{check.after / check.before:.3f}x of {before}"
    return f"{check.after:.4g} {printable(check.unit)} ({whole})"


def _change(a: LockedMeasure, b: LockedMeasure, by_factor: bool) -> str:
    return f"{b.after - a.after:+.2f} points" if a.unit == "%" else f"{100 * _moved(a, b, by_factor):+.1f} %"
