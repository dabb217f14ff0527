"""Peak memory over fresh processes, in turns."""

from pathlib import Path

import numpy as np
import pytest

from paredown.stages.measuring.peak_memory import peak_interval, peak_ratio, peaks_in_turns, processes_for
from paredown.stages.runtimes.base import Load


class Processes:
    """A runtime whose every process takes one MiB more than the one before it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def process_peak(self, model: Path, load: Load) -> float:
        self.asked.append(model.stem)
        return 100.0 + len(self.asked)


def test_models_take_turns() -> None:
    runtime = Processes()
    old, new = peaks_in_turns(runtime, [Path("a.onnx"), Path("b.onnx")], Load(1, 1), 3)  # type: ignore[arg-type]
    assert runtime.asked == ["a", "b"] * 3
    assert (old.tolist(), new.tolist()) == ([101, 103, 105], [102, 104, 106])


@pytest.mark.parametrize(("confidence", "processes"), [(0.8, 4), (0.95, 6), (0.99, 8), (0.999, 11)])
def test_the_least_and_the_most_hold_the_median_as_often_as_asked(confidence: float, processes: int) -> None:
    assert processes_for(confidence) == processes
    drawn = np.random.default_rng(0).exponential(size=(20_000, processes))  # its median is log 2
    held = (drawn.min(1) <= np.log(2)) & (np.log(2) <= drawn.max(1))
    assert held.mean() >= confidence - 0.002


def test_a_ratio_lies_between_those_of_single_turns() -> None:
    old, new = np.array([100.0, 102.0, 110.0]), np.array([50.0, 52.0, 54.0])
    ratio = peak_ratio(old, new)
    assert ratio.value == pytest.approx(52 / 102)
    assert (ratio.low, ratio.high) == pytest.approx((54 / 110, 52 / 102))
    assert peak_interval(old).ends == (100, 110)
