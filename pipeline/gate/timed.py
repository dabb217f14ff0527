"""Checks of what must be measured: latency and memory on this machine, the model and its baseline in turns."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paredown.models.errors import InputError
from paredown.models.progress import Progress
from paredown.pipeline.gate.amounts import machine_in_words, readable_amount
from paredown.pipeline.gate.budgets import Gates, Limit
from paredown.pipeline.gate.outcome import BudgetCheck, Verdict
from paredown.stages.limits import CACHES_IN_WORDS, Target
from paredown.stages.measuring.paired_ratio import Interval, PairedRatio, Times, rounds_of
from paredown.stages.products.evidence import MIB
from paredown.stages.runtimes.base import Load, Runtime

FIRST, GROWTH = 8, 1.3
"""Rounds before the first look at the numbers, and how many times as many before every further one."""
ENOUGH = 5
"""Rounds under which no interval can be trusted."""
PAIRS = 2
"""Times that the peak memory of each model is measured, by turns."""
QUANTILES = {"latency_p50": 50, "latency_p95": 95}


@dataclass(frozen=True)
class TimedModels:
    """The runtime, and the two files that take turns on it; where there is no baseline the model is its own."""

    runtime: Runtime
    model: Path
    baseline: Path


def timed_checks(gates: Gates, models: TimedModels, progress: Progress) -> tuple[list[BudgetCheck], PairedRatio | None]:
    """One check per limit on memory and latency, and the sample behind those on latency, None where there are none.

    Latency is measured until every verdict is clear, or the time is used up.
    """
    wanted, machine = {name for name, _ in gates.budgets.limits()}, models.runtime.machine()
    checks = list(_memory_checks(gates, models, machine, progress)) if "peak_memory" in wanted else []
    if not wanted & set(QUANTILES):
        return checks, None
    for _, sample in growing_samples(gates, models, progress):
        timed = list(latency_checks(gates, sample, machine))
        if all(check.verdict != "inconclusive" for check in timed):
            break
    return checks + timed, sample


def measured_how(target: Target, sample: PairedRatio) -> Iterator[str]:
    """Lines: which clock was used, how the caches were, and how far two sessions of one model were apart."""
    one = "CPU time of the thread that computes, so that waiting for a core does not count"
    many = f"wall-clock time of {target.threads} threads, to which everything else that runs adds"
    yield f"latency is {one if target.threads == 1 else many}"
    yield f"caches are {target.caches}: {CACHES_IN_WORDS[target.caches]}"
    value, low, high = (f"{number:.3f}" for number in (sample.control.value, sample.control.low, sample.control.high))
    yield f"two sessions of one model, measured beside the comparison: {value}x ({low} to {high})"


def growing_samples(
    gates: Gates, models: TimedModels, progress: Progress, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[float, PairedRatio]]:
    """(seconds spent, sample), again and again with more rounds in the sample; the last when the time is used up."""
    start, look, rounds = clock(), FIRST, list[tuple[Times, Times]]()
    load = Load.of(gates.target)
    for one in rounds_of(models.runtime, models.baseline, models.model, load, gates.seed):
        rounds.append(one)
        spent = clock() - start
        progress("gate: latency", min(spent, gates.seconds), gates.seconds)
        over = spent >= gates.seconds and len(rounds) > 1
        if len(rounds) >= look or over:
            look = int(len(rounds) * GROWTH) + 1
            yield spent, PairedRatio.of_rounds(rounds, gates.confidence)
        if over:
            return


def latency_checks(gates: Gates, sample: PairedRatio, machine: Mapping[str, str]) -> Iterator[BudgetCheck]:
    """p50 and p95; a p95 says how few runs it rests on."""
    for name, limit in gates.budgets.limits():
        if name not in QUANTILES:
            continue
        old, new = (float(np.percentile(times, QUANTILES[name])) for times in (sample.old, sample.new))
        measured = Measured(name.replace("_", " "), "ms", old, new, _rests_on(name, sample))
        if limit.unit == "x":
            ratio = sample.p50 if name == "latency_p50" else sample.p95
            # The median of all runs may be off from that, as a machine that drifts is in it.
            measured = replace(measured, after=old * ratio.value)
            check = relative_check(measured, limit, ratio, sample.control)
        else:
            check = absolute_check(measured, limit, sample.absolute(QUANTILES[name]), gates.machine, machine)
        yield check if sample.rounds >= ENOUGH else _too_few(check, sample)


def _too_few(check: BudgetCheck, sample: PairedRatio) -> BudgetCheck:
    few = f"only {sample.rounds} rounds were there when the time was used up (--seconds gives more); {check.because}"
    return check if check.verdict == "not comparable" else replace(check, verdict="inconclusive", because=few)


def _rests_on(name: str, sample: PairedRatio) -> str:
    runs = f"{sample.runs} runs of each model in {sample.rounds} rounds"
    return runs if name == "latency_p50" else f"the slowest {max(1, round(sample.runs / 20))} of {runs}"


@dataclass(frozen=True)
class Measured:
    """What was measured: the baseline's and the model's value in `unit`, and what they rest on."""

    name: str
    unit: str
    before: float
    after: float
    rests_on: str


def relative_check(measured: Measured, limit: Limit, ratio: Interval, control: Interval | None = None) -> BudgetCheck:
    """A ratio to the baseline against a factor. Where two sessions of one model differ, a verdict needs more room than
    they are apart: over hundreds of rounds a percent between equal sessions shows, and a limit may be far from that."""
    allowed, verdict = limit.value * measured.before, verdict_of(ratio, limit.value)
    seen = 100 * (limit.value * ratio.value / ratio.low - 1)
    because = f"{_ends(ratio, 'x')} where {limit} is allowed; {measured.rests_on}; +{seen:.1f} % would have been seen"
    if control and not control.holds(1):
        apart = max(control.high, 1 / control.low)
        verdict = verdict_of(Interval(ratio.value, ratio.low / apart, ratio.high * apart), limit.value)
        near = "more than the ratio is from its limit, so nothing can be compared"
        so = f", which is {near if verdict == 'inconclusive' else 'less than the ratio is from its limit'}"
        because = f"two sessions of one model differ by {_ends(control, 'x')} here{so}; {because}"
    return BudgetCheck(
        measured.name,
        "relative",
        str(limit),
        measured.unit,
        measured.before,
        measured.after,
        allowed,
        verdict,
        because,
        change=ratio,
    )


def absolute_check(
    measured: Measured, limit: Limit, interval: Interval, meant: Mapping[str, str], machine: Mapping[str, str]
) -> BudgetCheck:
    """A value against a limit that was set for a machine with the fields `meant`; elsewhere it says nothing."""
    if unknown := sorted(set(meant) - set(machine)):
        raise InputError(f"machine.{unknown[0]} is not known; allowed: {', '.join(machine)}")
    verdict, because = verdict_of(interval, limit.value), f"{_ends(interval, measured.unit)}; {measured.rests_on}"
    if other := {name: machine.get(name, "unknown") for name, value in meant.items() if machine.get(name) != value}:
        expected = machine_in_words({name: meant[name] for name in other})
        verdict, because = (
            "not comparable",
            f"the limit was set for {expected}; this machine has {machine_in_words(other)}",
        )
    return BudgetCheck(
        measured.name,
        "absolute",
        str(limit),
        measured.unit,
        None,
        measured.after,
        limit.value,
        verdict,
        because,
        after_ends=interval.ends,
    )


def verdict_of(interval: Interval, allowed: float) -> Verdict:
    """`fail` where all of the interval is over what is allowed, `pass` where all of it is within."""
    return "fail" if interval.low > allowed else "pass" if interval.high <= allowed else "inconclusive"


def _ends(interval: Interval, unit: str) -> str:
    value, low, high = (
        f"{one:.3f}{unit}" if unit == "x" else readable_amount(one, unit)
        for one in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def _memory_checks(
    gates: Gates, models: TimedModels, machine: Mapping[str, str], progress: Progress
) -> Iterator[BudgetCheck]:
    """Each peak is the median of a few fresh processes, and hardly differs from another one: the ends are those that
    were seen, and no interval of `gates.confidence`, for which it would take many more."""
    old, new = _peaks(gates, models, progress)
    measured = Measured(
        "peak memory", "B", float(np.median(old)), float(np.median(new)), f"the range of {PAIRS} measurements"
    )
    for name, limit in gates.budgets.limits():
        if name == "peak_memory" and limit.unit == "x":
            yield relative_check(measured, limit, _seen(new / old))
        elif name == "peak_memory":
            yield absolute_check(measured, limit, _seen(new), gates.machine, machine)


def _seen(values: np.ndarray) -> Interval:
    return Interval(float(np.median(values)), float(values.min()), float(values.max()))


def _peaks(gates: Gates, models: TimedModels, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Bytes, one per measurement of the baseline and of the model."""
    peaks, load = [], Load.of(gates.target)
    for pair in range(PAIRS):
        progress("gate: peak memory", pair, PAIRS)
        files: Sequence[Path] = (models.baseline, models.model)
        peaks.append([models.runtime.peak_memory(file, load) for file in files])
    old, new = MIB * np.array(peaks).T
    return old, new
