"""Holds a model to its budgets: reads what the files say, measures what they do not, and gives the outcome."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file, read_json
from paredown.models.onnx.facts import ModelFacts, model_facts, rules_of
from paredown.models.progress import Progress
from paredown.pipeline.gate.breakdown import breakdown
from paredown.pipeline.gate.budgets import MEASURED, Gates
from paredown.pipeline.gate.layer_pairs import layers_that_slowed
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome
from paredown.pipeline.gate.quality import QualityEvidence, quality_checks
from paredown.pipeline.gate.static import shortened_list, static_checks
from paredown.pipeline.gate.timed import TimedModels, measured_how, timed_checks
from paredown.stages.measuring.paired_ratio import PairedRatio
from paredown.stages.measuring.target_runtime import target_runtime
from paredown.stages.runtimes.base import Load, Runtime

LARGEST_MANIFEST = 16 * 2**20
"""Bytes."""
PROFILED = 20
"""Runs behind the times of single layers."""

Times = Mapping[str, Mapping[str, float]]
"""`model` and `baseline` to node to ms."""


@dataclass(frozen=True)
class GateRequest:
    """A model to check against the budgets of `gates`, and the baseline that their factors are of.

    `static` leaves out all that must be measured, `explain` adds tables of where the bytes and the milliseconds are.
    """

    model: Path
    baseline: Path | None
    gates: Gates
    static: bool = False
    explain: bool = False


def run_gate(request: GateRequest, progress: Progress) -> GateOutcome:
    """Every check of the budgets. Raises InputError for files or evidence that cannot be used."""
    start, gates = time.monotonic(), request.gates
    _refuse(request)
    runtime = None if request.static else target_runtime(gates.target, gates.root)
    model = _facts_of(request.model, gates, runtime)
    baseline = _facts_of(request.baseline, gates, runtime) if request.baseline else None
    checks, sample, quality = list(static_checks(gates.budgets, model, baseline)), None, QualityEvidence()
    if runtime:
        # First what may be refused: measuring takes a while.
        quality = _quality(request, runtime, progress)
        models = TimedModels(runtime, request.model, request.baseline or request.model)
        timed, sample = timed_checks(gates, models, progress)
        checks += [*timed, *quality.checks]
    times = _node_times(request, runtime, progress) if runtime and (request.explain or _too_slow(checks)) else {}
    return GateOutcome(
        model=str(request.model),
        baseline=str(request.baseline) if request.baseline else None,
        sha256={str(file): digest_file(file) for file in (request.model, request.baseline) if file},
        checks=tuple(_with_slow_layers(check, model, baseline, times) for check in checks),
        machine=runtime.machine() if runtime else {},
        runtime=runtime.version() if runtime else "",
        facts=(*quality.facts, *_facts(request, sample)),
        tables=breakdown(model, baseline, times or None) if request.explain else (),
        seconds=time.monotonic() - start,
    )


def _quality(request: GateRequest, runtime: Runtime, progress: Progress) -> QualityEvidence:
    if not request.gates.budgets.quality:
        return QualityEvidence()
    return quality_checks(request.gates, runtime, request.model, request.baseline, progress)


def _facts_of(file: Path, gates: Gates, runtime: Runtime | None) -> ModelFacts:
    """What the file holds; with a runtime, int8 is what that really computes with integers, where it tells."""
    facts = model_facts(file, rules_of(gates.target.runtime))
    return facts.as_executed(runtime.executed_operators(file)) if runtime and gates.budgets.unquantized else facts


def _refuse(request: GateRequest) -> None:
    """Raises InputError where no verdict is possible, before anything is measured."""
    if request.gates.budgets.relative and request.baseline is None:
        raise InputError("the budgets have factors (x) of a baseline; name it with --baseline or the key `baseline`")
    for file in (request.model, request.baseline):
        if file is not None:
            _refuse_false_evidence(file)


def _refuse_false_evidence(file: Path) -> None:
    """A manifest of paredown's beside a model must be about that model; other files have that name too."""
    path = file.parent / "manifest.json"
    if not is_file(path):
        return
    manifest = read_json(path, LARGEST_MANIFEST)
    digests = manifest.get("sha256") if isinstance(manifest, dict) and "paredown" in manifest else {}
    if not isinstance(digests, dict):
        raise InputError(f"{path}: sha256 should be a mapping of files to digests, got {type(digests).__name__}")
    if (expected := digests.get(file.name)) not in (None, digest_file(file)):
        raise InputError(f"{file} is not the model that {path} is about: its sha256 is not {expected!r:.80}")


def _too_slow(checks: list[BudgetCheck]) -> bool:
    return any(check.verdict == "fail" and check.name.startswith("latency") for check in checks)


def _node_times(request: GateRequest, runtime: Runtime, progress: Progress) -> Times:
    """The runtime's own profile of both models."""
    progress("gate: times of layers", 0, 1)
    load, files = Load.of(request.gates.target), {"model": request.model, "baseline": request.baseline}
    return {name: runtime.node_times(file, load, PROFILED) for name, file in files.items() if file}


def _with_slow_layers(check: BudgetCheck, model: ModelFacts, baseline: ModelFacts | None, times: Times) -> BudgetCheck:
    """The check; that of a latency over its limit with the layers that take longer."""
    if check.verdict != "fail" or not check.name.startswith("latency"):
        return check
    return replace(
        check,
        layers=shortened_list([f"{layer} +{ms:.3f} ms" for layer, ms in layers_that_slowed(model, baseline, times)]),
    )


def _facts(request: GateRequest, sample: PairedRatio | None) -> Iterator[str]:
    """Lines on how it was measured, and on what was not."""
    if sample:
        yield from measured_how(request.gates.target, sample)
    budgets = request.gates.budgets
    names = dict.fromkeys(name for name, _ in budgets.limits() if name in MEASURED)
    if request.static and (skipped := [*names, *(["accuracy and parity"] if budgets.quality else [])]):
        yield f"not measured (--static): {', '.join(skipped)}"
