"""What a model file costs on the target, and original and artifact side by side on other runtimes."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from paredown.models.onnx.edit import load_onnx, save_onnx
from paredown.stages.base import State
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.plugins import make_plugin
from paredown.stages.products.evidence import MIB, AccuracyScores, Comparison, Evidence
from paredown.stages.runtimes.base import Load, Runtime, latency_ratio, summarize_latency


def measure_evidence(model: Path, state: State, scores: AccuracyScores, times: list[list[float]] | None) -> Evidence:
    """Size (MiB), peak memory (MiB, measured now) and, where `times` (round, run) in ms are given, latency of a model
    file, beside its scores."""
    runtime = runtime_of(state)
    return Evidence(
        latency=summarize_latency(times) if times else None,
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
        runtime: Runtime = make_plugin("runtimes", name, {}, state.root)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{place}.onnx" for place in ("original", "artifact")]
            for source, file in zip(pair, files, strict=True):
                save_onnx(runtime.lower(load_onnx(source)), file)
            old, new = runtime.latency(files, Load.of(state.target), rounds, runs)
        comparisons.append(
            Comparison(runtime.version(), summarize_latency(old), summarize_latency(new), latency_ratio(new, old))
        )
    return comparisons
