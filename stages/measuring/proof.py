"""What was measured of original and artifact side by side: all that a verdict on the artifact rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.stages.limits import Limits
from paredown.stages.measuring.accuracy import accuracy_scores
from paredown.stages.measuring.answers import Answers
from paredown.stages.measuring.limit_checks import limit_checks
from paredown.stages.measuring.model_evidence import Measurer, Rounds, timed_in_pairs
from paredown.stages.measuring.peak_memory import peak_ratio
from paredown.stages.measuring.proportions import accuracy_change
from paredown.stages.products.evidence import AccuracyChange, Evidence
from paredown.stages.products.manifest import MeasureRatios
from paredown.stages.products.measure_check import MeasureCheck

SplitAnswers = Mapping[str, Answers]
"""Split to what a model answered on its images."""


@dataclass(frozen=True)
class Proof:
    """Evidence of both models, their ratios, and how their answers differ by split; intervals are of `confidence`."""

    before: Evidence
    after: Evidence
    ratios: MeasureRatios
    accuracy_change: Mapping[str, AccuracyChange]
    confidence: float

    def checks(self, limits: Limits) -> tuple[MeasureCheck, ...]:
        """Every measure against the limits."""
        return limit_checks(limits, self.before, self.after, self.ratios, self.accuracy_change.get("test"))


def measure_pair(
    measurer: Measurer,
    pair: Sequence[Path],
    answers: Sequence[SplitAnswers],
    times: Sequence[Rounds],
    processes: int | None = None,
) -> Proof:
    """The proof of an original and its artifact, `pair`, from what both answered and from the (round, run) milliseconds
    that they took in turns; their memory is measured now, in as many processes as the confidence takes."""
    old, new, paired = timed_in_pairs(times, measurer.confidence)
    peaks = measurer.peaks(pair, processes)
    before, after = (
        measurer.evidence(file, accuracy_scores(answered), latency, peak)
        for file, answered, latency, peak in zip(pair, answers, (old, new), peaks, strict=True)
    )
    memory = peak_ratio(*peaks)
    ratios = MeasureRatios(
        latency_p50=paired.p50.value,
        size=after.size / before.size,
        peak_memory=memory.value,
        latency_p50_ends=paired.p50.ends,
        latency_p95=paired.p95.value,
        latency_p95_ends=paired.p95.ends,
        peak_memory_ends=memory.ends,
    )
    changes = {split: accuracy_change(answers[0][split], one, measurer.confidence) for split, one in answers[1].items()}
    return Proof(before, after, ratios, changes, measurer.confidence)
