"""Promises of latency, size and memory, measured again: the artifact in turns with its original, in fresh sessions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from paredown.models.progress import Progress
from paredown.pipeline.gate.amounts import machine_in_words
from paredown.pipeline.gate.budgets import Budgets, Gates, Limit
from paredown.pipeline.gate.outcome import BudgetCheck
from paredown.pipeline.gate.timed import QUANTILES, TimedModels, growing_samples, measured_how, timed_checks
from paredown.pipeline.promises.promise import Finding, Promise, Unit
from paredown.pipeline.promises.shipped import Shipped
from paredown.stages.limits import Bound
from paredown.stages.measuring.paired_ratio import PairedRatio
from paredown.stages.products.evidence import MIB
from paredown.stages.runtimes.base import Load, Runtime

NEEDS_ORIGINAL = "needs the original: baseline/model.onnx beside the artifact, or --baseline FILE"
MEASURED: Mapping[str, Unit] = {"latency_p50": "ms", "latency_p95": "ms", "peak_memory": "MiB"}
"""What only a machine can tell, in the units of a manifest."""


@dataclass(frozen=True)
class Bench:
    """An artifact on the runtime of its manifest, here; latency is measured for so many `seconds` at most."""

    shipped: Shipped
    runtime: Runtime
    seconds: float
    seed: int = 0

    @property
    def here(self) -> dict[str, str]:
        """What absolute times and memory depend on, of this machine."""
        return {**self.runtime.machine(), "runtime": self.runtime.version()}

    @property
    def other(self) -> dict[str, str]:
        """Of those fields the ones that differ where the manifest was measured, as they were there."""
        measured = self.shipped.manifest.artifact
        there = {**measured.machine, "runtime": measured.runtime}
        return {
            name: there.get(name, "unknown")
            for name in {**there, **self.here}
            if there.get(name) != self.here.get(name)
        }

    def bound(self, name: str) -> Bound | None:
        """The limit on a measure, None where the manifest has none."""
        return {
            "latency_p50": self.shipped.limits.latency_p50,
            "latency_p95": self.shipped.limits.latency_p95,
            "peak_memory": self.shipped.limits.peak_memory,
        }[name]

    def obstacle(self, name: str) -> tuple[Finding, str] | None:
        """Why a limit cannot be judged here, None where it can, or where there is none."""
        bound = self.bound(name)
        if bound is None:
            return None
        if bound.unit == "x":
            return ("not checked", NEEDS_ORIGINAL) if self.shipped.original is None else None
        words = machine_in_words({field: self.here.get(field, "unknown") for field in self.other})
        told = f"it was promised on {machine_in_words(self.other)}; this machine has {words}"
        return ("not comparable", told) if self.other else None

    def gates(self) -> Gates:
        """The limits that can be judged here, as budgets of the gate."""
        judged = {name: bound for name in MEASURED if (bound := self.bound(name)) and not self.obstacle(name)}
        budgets = {name: (_limit(bound),) for name, bound in judged.items()}
        return Gates(
            target=self.shipped.target,
            budgets=Budgets.model_validate(budgets),
            seconds=self.seconds,
            confidence=self.shipped.confidence,
            seed=self.seed,
        )


def _limit(bound: Bound) -> Limit:
    scaled = (
        {"value": bound.value * MIB, "unit": "B"} if bound.unit == "MiB" else {"value": bound.value, "unit": bound.unit}
    )
    return Limit.model_validate({**scaled, "written": str(bound)})


def size_promise(shipped: Shipped) -> Promise:
    """The file's size, which is exact."""
    bound, after = shipped.limits.size, shipped.model.stat().st_size / MIB
    before = shipped.original.stat().st_size / MIB if shipped.original else None
    manifest = shipped.manifest
    known = Promise("size", "no limit", measure="MiB", before=before, after=after)
    if bound is None or bound.unit == "MiB":
        known = replace(known, unit="MiB", value=after, told=manifest.artifact.size)
    else:
        known = replace(known, unit="x", value=after / before if before else None, told=manifest.ratios.size)
    if bound is None:
        return known
    limited = replace(known, limit=str(bound), promised=bound.value)
    if known.value is None:
        return replace(limited, finding="not checked", because=NEEDS_ORIGINAL)
    return replace(limited, finding="pass" if known.value <= bound.value * (1 + 1e-12) else "fail", because="exact")


def measured_promises(bench: Bench, progress: Progress) -> tuple[list[Promise], list[str]]:
    """One promise for each of p50, p95 and peak memory, and lines on how they were measured.

    Latency is measured until every finding is clear, or the time is used up; what no limit is set on, or cannot be
    judged here, is measured shortly and told.
    """
    gates, shipped = bench.gates(), bench.shipped
    models = TimedModels(bench.runtime, shipped.model, shipped.original or shipped.model)
    checks, sample = timed_checks(gates, models, progress)
    if sample is None:
        _, sample = next(growing_samples(gates, models, progress))
    judged = {check.name.replace(" ", "_"): check for check in checks}
    promises = [_timed(name, bench, sample, judged.get(name)) for name in QUANTILES]
    promises.append(_memory(bench, judged.get("peak_memory"), progress))
    return promises, list(measured_how(shipped.target, sample))


def _timed(name: str, bench: Bench, sample: PairedRatio, check: BudgetCheck | None) -> Promise:
    manifest, quantile = bench.shipped.manifest, QUANTILES[name]
    told, bound = manifest.artifact.latency, bench.bound(name)
    old, new = (float(np.percentile(times, quantile)) for times in (sample.old, sample.new))
    p50 = name == "latency_p50"
    relative = bound.unit == "x" if bound else bench.shipped.original is not None
    stated: float | None
    if relative and bench.shipped.original:
        ratio = sample.p50 if p50 else sample.p95
        before, new, was = old, old * ratio.value, manifest.baseline.latency
        stated = manifest.ratios.latency_p50 if p50 else told.p95 / was.p95 if told and was else None
    else:
        ratio, before = sample.absolute(quantile), None
        stated = (told.p50 if p50 else told.p95) if told else None
    unit: Unit = "x" if before is not None else "ms"
    measured = Promise(
        name.replace("_", " "), "no limit", unit=unit, told=stated, measure="ms", before=before, after=new
    )
    return _found(replace(measured, value=ratio.value, ends=(ratio.low, ratio.high)), name, bench, check)


def _memory(bench: Bench, check: BudgetCheck | None, progress: Progress) -> Promise:
    shipped, bound = bench.shipped, bench.bound("peak_memory")
    name, manifest = "peak_memory", shipped.manifest
    known = Promise("peak memory", "no limit", measure="MiB")
    if check is None:
        progress("verify: peak memory", 0, 1)
        after = bench.runtime.peak_memory(shipped.model, Load.of(shipped.target))
        told = manifest.artifact.peak_memory
        return _found(replace(known, unit="MiB", value=after, after=after, told=told), name, bench, None)
    after, before = (check.after or 0) / MIB, check.before and check.before / MIB
    known = replace(known, before=before, after=after)
    if bound and bound.unit == "x":
        value, stated, scale = after / before if before else None, manifest.ratios.peak_memory, 1
        known = replace(known, unit="x", value=value, told=stated)
    else:
        known, scale = replace(known, unit="MiB", value=after, told=manifest.artifact.peak_memory), MIB
    ends = check.ends and (check.ends[0] / scale, check.ends[1] / scale)
    return _found(replace(known, ends=ends), name, bench, check)


def _found(promise: Promise, name: str, bench: Bench, check: BudgetCheck | None) -> Promise:
    """The promise with its limit, and with the finding of the gate's check, or why there is none."""
    bound, obstacle = bench.bound(name), bench.obstacle(name)
    if bound is None:
        return promise
    limited = replace(promise, limit=str(bound))
    if obstacle:
        finding, because = obstacle
        return replace(limited, finding=finding, because=because, promised=bound.value if bound.unit != "x" else None)
    assert check is not None
    return replace(limited, promised=bound.value, finding=check.verdict, because=check.because)


def machine_facts(bench: Bench) -> Iterator[str]:
    """What is different here from where the manifest was measured, and what follows for its numbers."""
    if bench.other:
        here = machine_in_words({name: bench.here.get(name, "unknown") for name in bench.other})
        yield (
            f"the manifest was measured with {machine_in_words(bench.other)}; here it is {here}: "
            "absolute ms and MiB count only there, and are told, not judged; ratios are judged"
        )
