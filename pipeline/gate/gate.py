"""The gate's one path: the files, what can be read from them, what must be measured, and the outcome."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file, read_json
from paredown.models.onnx.facts import Facts, facts_of
from paredown.models.progress import Progress
from paredown.pipeline.gate.breakdown import why
from paredown.pipeline.gate.budgets import MEASURED, Gates
from paredown.pipeline.gate.layer_pairs import layers_that_slowed
from paredown.pipeline.gate.outcome import Check, Outcome
from paredown.pipeline.gate.quality import quality_checks
from paredown.pipeline.gate.static import shortened, static_checks
from paredown.pipeline.gate.timed import Subjects, timed_checks
from paredown.stages.measuring.paired_ratio import Paired
from paredown.stages.measuring.target import target_runtime
from paredown.stages.runtimes.base import Load, Runtime

LARGEST_MANIFEST = 16 * 2**20
"""Bytes."""
PROFILED = 20
"""Runs behind the times of single layers."""

Times = Mapping[str, Mapping[str, float]]
"""`model` and `baseline` to node to ms."""


@dataclass(frozen=True)
class Request:
    """What is asked: two files, the budgets, whether to do without measuring, and whether to explain."""

    model: Path
    baseline: Path | None
    gates: Gates
    static: bool = False
    explain: bool = False


def gate(request: Request, progress: Progress) -> Outcome:
    """Every check of the budgets. Raises InputError for files or evidence that cannot be used."""
    start, gates = time.monotonic(), request.gates
    _refuse(request)
    model, baseline = facts_of(request.model), facts_of(request.baseline) if request.baseline else None
    checks, found = list(static_checks(gates.budgets, model, baseline)), None
    runtime = None if request.static else target_runtime(gates.target, gates.root)
    if runtime:
        subjects = Subjects(runtime, request.model, request.baseline or request.model)
        timed, found = timed_checks(gates, subjects, progress)
        checks += timed
        if gates.budgets.quality:
            checks += quality_checks(gates, runtime, request.model, request.baseline, progress)
    times = _node_times(request, runtime, progress) if runtime and (request.explain or _too_slow(checks)) else {}
    return Outcome(
        model=str(request.model),
        baseline=str(request.baseline) if request.baseline else None,
        sha256={str(file): digest_file(file) for file in (request.model, request.baseline) if file},
        checks=tuple(_blamed(check, model, baseline, times) for check in checks),
        machine=runtime.machine() if runtime else {},
        runtime=runtime.version() if runtime else "",
        facts=tuple(_facts(request, found)),
        tables=why(model, baseline, times or None) if request.explain else (),
        seconds=time.monotonic() - start,
    )


def _refuse(request: Request) -> None:
    """What makes a verdict impossible, before anything is measured."""
    if request.gates.budgets.relative and request.baseline is None:
        raise InputError("the budgets have factors (x) of a baseline; name it with --baseline or the key `baseline`")
    for file in (request.model, request.baseline):
        if file is not None:
            _refuse_false_evidence(file)


def _refuse_false_evidence(file: Path) -> None:
    """A manifest of paredown's beside a model must be about that model; other files have that name too."""
    manifest = file.parent / "manifest.json"
    if not is_file(manifest):
        return
    told = read_json(manifest, LARGEST_MANIFEST)
    digests = told.get("sha256") if isinstance(told, dict) and "paredown" in told else {}
    if not isinstance(digests, dict):
        raise InputError(f"{manifest}: sha256 should be a mapping of files to digests, got {type(digests).__name__}")
    if (expected := digests.get(file.name)) not in (None, digest_file(file)):
        raise InputError(f"{file} is not the model that {manifest} is about: its sha256 is not {expected!r:.80}")


def _too_slow(checks: list[Check]) -> bool:
    return any(check.verdict == "fail" and check.name.startswith("latency") for check in checks)


def _node_times(request: Request, runtime: Runtime, progress: Progress) -> Times:
    """The runtime's own profile of both models."""
    progress("gate: times of layers", 0, 1)
    load, files = Load.of(request.gates.target), {"model": request.model, "baseline": request.baseline}
    return {name: runtime.node_times(file, load, PROFILED) for name, file in files.items() if file}


def _blamed(check: Check, model: Facts, baseline: Facts | None, times: Times) -> Check:
    """A latency that is over its limit, with the layers that take longer."""
    if check.verdict != "fail" or not check.name.startswith("latency"):
        return check
    return replace(
        check, layers=shortened([f"{layer} +{ms:.3f} ms" for layer, ms in layers_that_slowed(model, baseline, times)])
    )


def _facts(request: Request, found: Paired | None) -> Iterator[str]:
    """How it was measured, and what was not."""
    target = request.gates.target
    if found:
        one = "CPU time of the thread that computes, so that waiting for a core does not count"
        many = f"wall-clock time of {target.threads} threads, to which everything else that runs adds"
        yield f"latency is {one if target.threads == 1 else many}"
        value, low, high = (f"{number:.3f}" for number in (found.control.value, found.control.low, found.control.high))
        yield f"two sessions of one model, measured beside the comparison: {value}x ({low} to {high})"
    budgets = request.gates.budgets
    names = dict.fromkeys(name for name, _ in budgets.limits() if name in MEASURED)
    if request.static and (skipped := [*names, *(["accuracy and parity"] if budgets.quality else [])]):
        yield f"not measured (--static): {', '.join(skipped)}"
