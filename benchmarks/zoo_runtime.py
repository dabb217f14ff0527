"""The runtime of `zoo.py`: onnxruntime itself, with a clock that measures twice, in one session, where a run asks for a
hundred times in several.

What it says of times is worth nothing; which networks it opens, and what it computes, is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime


@dataclass(frozen=True)
class BriefOnnxRuntime(OnnxRuntime):
    """onnxruntime, timed in one round of two runs."""

    def latency(
        self, models: Sequence[Path], load: Load, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        return super().latency(models, load, 1, min(runs, 2), seed)

    def node_times(self, model: Path, load: Load, runs: int) -> dict[str, float]:
        return super().node_times(model, load, min(runs, 2))


PLUGIN = BriefOnnxRuntime
