"""What a model file costs on the target, and original and artifact side by side on other runtimes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from paredown.models.onnx.edit import load_onnx, save_onnx
from paredown.stages.base import State
from paredown.stages.limits import Caches
from paredown.stages.measuring.paired_ratio import PairedRatio
from paredown.stages.measuring.peak_memory import Peaks, peak_interval, peaks_in_turns, processes_for
from paredown.stages.measuring.proportions import accuracy_ends
from paredown.stages.measuring.target_runtime import able_to_measure, runtime_of
from paredown.stages.plugins import make_plugin
from paredown.stages.products.evidence import MIB, AccuracyScores, Comparison, Evidence, LatencyEvidence
from paredown.stages.products.interval import CONFIDENCE
from paredown.stages.runtimes.base import Load, Runtime, summarize_latency

Rounds = list[list[float]]
"""One model's milliseconds (round, run)."""


@dataclass(frozen=True)
class Measurer:
    """Measures model files on a runtime under a load; all intervals are of this confidence."""

    runtime: Runtime
    load: Load
    confidence: float = CONFIDENCE

    @classmethod
    def of(cls, state: State, confidence: float = CONFIDENCE) -> "Measurer":
        """On the target of a recipe."""
        return cls(runtime_of(state), Load.of(state.target), confidence)

    def evidence(self, model: Path, scores: AccuracyScores, latency: LatencyEvidence | None, peaks: Peaks) -> Evidence:
        """All that is known of a model file, with its size now."""
        memory = peak_interval(peaks)
        return Evidence(
            latency=latency,
            size=model.stat().st_size / MIB,
            peak_memory=memory.value,
            accuracy=scores.accuracy,
            images=scores.images,
            runtime=self.runtime.version(),
            machine=self.runtime.machine(),
            peak_memory_ends=memory.ends,
            accuracy_ends={
                name: accuracy_ends(points, scores.images[name], self.confidence)
                for name, points in scores.accuracy.items()
            },
        )

    def peaks(self, models: Sequence[Path], processes: int | None = None) -> list[Peaks]:
        """The peak memory of every model, of as many fresh processes as the confidence takes, in turns."""
        return peaks_in_turns(self.runtime, models, self.load, processes or processes_for(self.confidence))


def measure_alone(model: Path, state: State, scores: AccuracyScores, times: Rounds, processes: int | None) -> Evidence:
    """Evidence of a model that is measured on its own; its peak memory is measured now, in so many processes."""
    measurer = Measurer.of(state)
    return measurer.evidence(model, scores, timed_alone(times), measurer.peaks([model], processes)[0])


def timed_alone(times: Rounds, confidence: float = CONFIDENCE) -> LatencyEvidence:
    """One model's (round, run) milliseconds as evidence, with intervals."""
    own = measured_in_pairs([times, times], confidence)
    return replace(summarize_latency(times), p50_ends=own.absolute(50).ends, p95_ends=own.absolute(95).ends)


def timed_in_pairs(times: Sequence[Rounds], confidence: float) -> tuple[LatencyEvidence, LatencyEvidence, PairedRatio]:
    """Evidence of original and artifact, and their ratios, of the (round, run) milliseconds that both took in turns.

    The artifact's p50 is the original's times their ratio: one model has one p50, and it is the one that limits and
    ratios are about. The median of all of its runs is not always the same, as a machine that drifts is in it.
    """
    pair, (old, new) = measured_in_pairs(times, confidence), times
    p50 = pair.new_p50
    after = replace(timed_alone(new, confidence), p50=p50.value, p50_ends=p50.ends)
    return timed_alone(old, confidence), after, pair


def measured_in_pairs(times: Sequence[Rounds], confidence: float = CONFIDENCE) -> PairedRatio:
    """The (round, run) ms of original and artifact as paired rounds with one session each."""
    old, new = (np.array(one)[:, None, :] for one in times)
    return PairedRatio(old, new, confidence)


def compare_on_runtimes(
    state: State, pair: Sequence[Path], rounds: int, runs: int, confidence: float = CONFIDENCE
) -> list[Comparison]:
    """Original and artifact timed in turns on every further runtime that the recipe names, as many threads and images.

    `pair` are the portable files of the two.
    """
    comparisons = []
    for name in state.compare:
        runtime = able_to_measure(make_plugin("runtimes", name, {}, state.root), state.target)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{place}.onnx" for place in ("original", "artifact")]
            for source, file in zip(pair, files, strict=True):
                save_onnx(runtime.lower(load_onnx(source)), file)
            comparisons.append(_compared(Measurer(runtime, Load.of(state.target), confidence), files, rounds, runs)[0])
    return comparisons


def compare_with_other_caches(
    measurer: Measurer, pair: Sequence[Path], rounds: int, runs: int
) -> tuple[Comparison, PairedRatio] | None:
    """Original and artifact timed in turns with hot caches where the load's are cold, and the other way round; and
    their ratios. None where the runtime cannot measure so."""
    caches: Caches = "hot" if measurer.load.caches == "cold" else "cold"
    if caches == "cold" and not measurer.runtime.supports("cold"):
        return None
    return _compared(replace(measurer, load=replace(measurer.load, caches=caches)), pair, rounds, runs)


def _compared(measurer: Measurer, pair: Sequence[Path], rounds: int, runs: int) -> tuple[Comparison, PairedRatio]:
    times = measurer.runtime.latency(pair, measurer.load, rounds, runs)
    before, after, ratios = timed_in_pairs(times, measurer.confidence)
    p50, caches = ratios.p50, measurer.load.caches
    return Comparison(measurer.runtime.version(), before, after, p50.value, p50.ends, caches), ratios
