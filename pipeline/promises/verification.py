"""Measures a finished artifact again, from outside: only its files and its manifest count, not the run that made it."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from paredown.models.errors import InputError
from paredown.models.onnx.checked_file import open_checked
from paredown.models.progress import Progress
from paredown.pipeline.gate.budgets import MOST_SECONDS
from paredown.pipeline.gate.outcome import WARNING
from paredown.pipeline.promises.answered import accuracy_promise, agreement_promise, limits_not_checked
from paredown.pipeline.promises.measured import Bench, machine_facts, measured_promises, size_promise
from paredown.pipeline.promises.promise import Promise, Verification
from paredown.pipeline.promises.shipped import Shipped, file_promises, read_shipped
from paredown.stages.measuring.target_runtime import target_runtime

SECONDS = 45.0
"""The longest that latency is measured, where nobody says otherwise."""


@dataclass(frozen=True)
class VerifyRequest:
    """An artifact, by its file or folder. `baseline` is the file of the original, `data` a source of test images as in
    a recipe, `runtime` the runtime in the place of one that the manifest names by a path, `seconds` the longest that
    latency is measured."""

    artifact: Path
    baseline: Path | None = None
    data: str | None = None
    runtime: str | None = None
    seconds: float = SECONDS


def verify_artifact(request: VerifyRequest, progress: Progress) -> Verification:
    """Every promise of the manifest, with what was found here. Raises InputError for files that cannot be used, and
    MissingError where the runtime is not installed."""
    if not 0 < request.seconds <= MOST_SECONDS:
        raise InputError(f"seconds is {request.seconds:g}; allowed: above 0, at most {MOST_SECONDS}")
    start = time.monotonic()
    shipped = read_shipped(request.artifact, request.baseline, request.runtime)
    files = [*file_promises(shipped)]
    if not shipped.is_promised:
        because = "the file is not the one that the manifest is about, so it was not run"
        promises = [*files, *limits_not_checked(shipped, because)]
        return _verification(shipped, promises, None, (), time.monotonic() - start)
    runtime = target_runtime(shipped.target, Path.cwd())
    for file in filter(None, (shipped.model, shipped.original)):
        open_checked(file)
    with TemporaryDirectory() as cache:
        accuracy, odd = accuracy_promise(shipped, runtime, request.data, Path(cache), progress)
    bench = Bench(shipped, runtime, request.seconds)
    (p50, p95, memory), how = measured_promises(bench, progress)
    promises = [*files, p50, p95, size_promise(shipped), memory, accuracy, agreement_promise(shipped)]
    facts = (*(f"{WARNING}{line}" for line in (*shipped.notes, *odd)), *how, *machine_facts(bench))
    return _verification(shipped, promises, bench, facts, time.monotonic() - start)


def _verification(
    shipped: Shipped, promises: list[Promise], bench: Bench | None, facts: tuple[str, ...], seconds: float
) -> Verification:
    return Verification(
        artifact=str(shipped.model),
        original=str(shipped.original) if shipped.original else None,
        sha256=shipped.digest,
        promises=tuple(promises),
        machine=bench.runtime.machine() if bench else {},
        runtime=bench.runtime.version() if bench else "",
        facts=facts,
        seconds=seconds,
    )
