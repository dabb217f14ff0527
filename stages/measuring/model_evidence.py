"""What a model file costs on the target, and original and artifact side by side on other runtimes."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from paredown.models.onnx.edit import load, save
from paredown.stages.base import State
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.plugins import make
from paredown.stages.products.evidence import MIB, Comparison, Evidence, Scores
from paredown.stages.runtimes.base import Load, Runtime, ratio, summarize


def evidence_of(model: Path, state: State, scores: Scores, times: list[list[float]] | None) -> Evidence:
    """Size (MiB), peak memory (MiB, measured now) and, where `times` (round, run) in ms are given, latency of a model
    file, beside its scores."""
    runtime = runtime_of(state)
    return Evidence(
        latency=summarize(times) if times else None,
        size=model.stat().st_size / MIB,
        peak_memory=runtime.peak_memory(model, Load.of(state.target)),
        accuracy=scores.accuracy,
        images=scores.images,
        runtime=runtime.version(),
        machine=runtime.machine(),
    )


def compare_on_runtimes(state: State, pair: Sequence[Path], rounds: int, runs: int) -> list[Comparison]:
    """Original and artifact timed in turns on every further runtime that the recipe names, as many threads and images.

    `pair` are the portable files of the two.
    """
    comparisons = []
    for name in state.compare:
        runtime: Runtime = make("runtimes", name, {}, state.root)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{place}.onnx" for place in ("original", "artifact")]
            for source, file in zip(pair, files, strict=True):
                save(runtime.lower(load(source)), file)
            old, new = runtime.latency(files, Load.of(state.target), rounds, runs)
        comparisons.append(Comparison(runtime.version(), summarize(old), summarize(new), ratio(new, old)))
    return comparisons
