"""Checks of what a machine must be asked: latency and memory, measured now, the model and its baseline in turns."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paredown.models.errors import InputError
from paredown.models.progress import Progress
from paredown.pipeline.gate.amounts import amount, named
from paredown.pipeline.gate.budgets import Gates, Limit
from paredown.pipeline.gate.outcome import Check, Verdict
from paredown.stages.measuring.paired_ratio import Interval, Paired, Times, rounds_of, together
from paredown.stages.products.evidence import MIB
from paredown.stages.runtimes.base import Load, Runtime

FIRST, GROWTH = 8, 1.3
"""Rounds before the first look at the numbers, and how many times as many before every further one."""
ENOUGH = 5
"""Rounds under which no interval can be trusted."""
PAIRS = 2
"""Fresh processes of each model whose peak memory is compared."""
QUANTILES = {"latency_p50": 50, "latency_p95": 95}


@dataclass(frozen=True)
class Subjects:
    """The two files that take turns; where there is no baseline the model is its own."""

    runtime: Runtime
    model: Path
    baseline: Path


def timed_checks(gates: Gates, subjects: Subjects, progress: Progress) -> tuple[list[Check], Paired | None]:
    """One check per limit on memory and latency, and the times behind them. Latency is measured until every verdict is
    clear, or the time is used up."""
    wanted, machine = {name for name, _ in gates.budgets.limits()}, subjects.runtime.machine()
    checks = list(_memory_checks(gates, subjects, machine, progress)) if "peak_memory" in wanted else []
    if not wanted & set(QUANTILES):
        return checks, None
    for _, found in samples(gates, subjects, progress):
        timed = list(latency_checks(gates, found, machine))
        if all(check.verdict != "inconclusive" for check in timed):
            break
    return checks + timed, found


def samples(
    gates: Gates, subjects: Subjects, progress: Progress, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[float, Paired]]:
    """Seconds spent, and ever larger samples; the last one is there when the time is used up."""
    start, look, rounds = clock(), FIRST, list[tuple[Times, Times]]()
    load = Load.of(gates.target)
    for one in rounds_of(subjects.runtime, subjects.baseline, subjects.model, load, gates.seed):
        rounds.append(one)
        spent = clock() - start
        progress("gate: latency", min(spent, gates.seconds), gates.seconds)
        over = spent >= gates.seconds and len(rounds) > 1
        if len(rounds) >= look or over:
            look = int(len(rounds) * GROWTH) + 1
            yield spent, together(rounds, gates.confidence)
        if over:
            return


def latency_checks(gates: Gates, found: Paired, machine: Mapping[str, str]) -> Iterator[Check]:
    """p50 and p95; a p95 says how few runs it rests on."""
    for name, limit in gates.budgets.limits():
        if name not in QUANTILES:
            continue
        old, new = (float(np.percentile(times, QUANTILES[name])) for times in (found.old, found.new))
        told = Measured(name.replace("_", " "), "ms", old, new, _rests_on(name, found))
        if limit.unit == "x":
            ratio = found.p50 if name == "latency_p50" else found.p95
            check = relative(told, limit, ratio, found.control)
        else:
            check = absolute(told, limit, found.absolute(QUANTILES[name]), gates.machine, machine)
        yield check if found.rounds >= ENOUGH else _too_few(check, found)


def _too_few(check: Check, found: Paired) -> Check:
    few = f"only {found.rounds} rounds were there when the time was used up (--seconds gives more); {check.because}"
    return check if check.verdict == "not comparable" else replace(check, verdict="inconclusive", because=few)


def _rests_on(name: str, found: Paired) -> str:
    runs = f"{found.runs} runs of each model in {found.rounds} rounds"
    return runs if name == "latency_p50" else f"the slowest {max(1, round(found.runs / 20))} of {runs}"


@dataclass(frozen=True)
class Measured:
    """What was measured: the baseline's and the model's value in `unit`, and what they rest on."""

    name: str
    unit: str
    before: float
    after: float
    rests_on: str


def relative(told: Measured, limit: Limit, ratio: Interval, control: Interval | None = None) -> Check:
    """A ratio to the baseline against a factor. Where two sessions of one model differ, nothing can be compared."""
    allowed, verdict = limit.value * told.before, judged(ratio, limit.value)
    seen = 100 * (limit.value * ratio.value / ratio.low - 1)
    because = f"{_ends(ratio, 'x')} where {limit} is allowed; {told.rests_on}; +{seen:.1f} % would have been seen"
    if control and not control.holds(1):
        verdict = "inconclusive"
        because = (
            f"two sessions of one model differ by {_ends(control, 'x')} here, so nothing can be compared; {because}"
        )
    return Check(told.name, "relative", str(limit), told.unit, told.before, told.after, allowed, verdict, because)


def absolute(
    told: Measured, limit: Limit, found: Interval, meant: Mapping[str, str], machine: Mapping[str, str]
) -> Check:
    """A value against a limit that was set for a kind of machine; elsewhere it says nothing."""
    if unknown := sorted(set(meant) - set(machine)):
        raise InputError(f"machine.{unknown[0]} is not known; allowed: {', '.join(machine)}")
    verdict, because = judged(found, limit.value), f"{_ends(found, told.unit)}; {told.rests_on}"
    if other := {name: machine.get(name, "unknown") for name, value in meant.items() if machine.get(name) != value}:
        expected = named({name: meant[name] for name in other})
        verdict, because = "not comparable", f"the limit was set for {expected}; this machine has {named(other)}"
    return Check(told.name, "absolute", str(limit), told.unit, None, told.after, limit.value, verdict, because)


def judged(found: Interval, allowed: float) -> Verdict:
    """Over for sure, within for sure, or neither."""
    return "fail" if found.low > allowed else "pass" if found.high <= allowed else "inconclusive"


def _ends(found: Interval, unit: str) -> str:
    value, low, high = (
        f"{one:.3f}{unit}" if unit == "x" else amount(one, unit) for one in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"


def _memory_checks(gates: Gates, subjects: Subjects, machine: Mapping[str, str], progress: Progress) -> Iterator[Check]:
    """Peaks of fresh processes, which hardly differ: the ends are those of the ratios that were seen."""
    old, new = _peaks(gates, subjects, progress)
    told = Measured(
        "peak memory", "B", float(np.median(old)), float(np.median(new)), f"{PAIRS} fresh processes of each model"
    )
    for name, limit in gates.budgets.limits():
        if name == "peak_memory" and limit.unit == "x":
            yield relative(told, limit, _seen(new / old))
        elif name == "peak_memory":
            yield absolute(told, limit, _seen(new), gates.machine, machine)


def _seen(values: np.ndarray) -> Interval:
    return Interval(float(np.median(values)), float(values.min()), float(values.max()))


def _peaks(gates: Gates, subjects: Subjects, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Bytes, one per process of the baseline and of the model."""
    found, load = [], Load.of(gates.target)
    for pair in range(PAIRS):
        progress("gate: peak memory", pair, PAIRS)
        files: Sequence[Path] = (subjects.baseline, subjects.model)
        found.append([subjects.runtime.peak_memory(file, load) for file in files])
    old, new = MIB * np.array(found).T
    return old, new
