"""Paired times: ratios with intervals, and what a control is for."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.stages.limits import Caches
from paredown.stages.measuring.paired_ratio import PairedRatio, rounds_of, session_runs
from paredown.stages.runtimes.base import Load

ROUNDS, RUNS = 24, 10


def drawn(ratio: float, seed: int = 0, noise: float = 0.03, drift: float = 0.5, sessions: float = 0.0) -> PairedRatio:
    """Times of a machine that drifts by `drift` from round to round, and whose first sessions are `sessions` slower."""
    rng = np.random.default_rng(seed)
    rounds = np.exp(rng.normal(0, drift, (ROUNDS, 1, 1)))
    order = np.exp(sessions * np.array([1.0, 0.0]))[None, :, None]

    def times(factor: float) -> np.ndarray:
        apart = np.exp(rng.normal(0, noise, (ROUNDS, 2, 1)) + rng.normal(0, noise, (ROUNDS, 2, RUNS)))
        return np.asarray(factor * rounds * order * apart)

    return PairedRatio(times(1.0), times(ratio))


def test_a_machine_that_drifts_by_half_does_not_hide_a_tenth() -> None:
    found = drawn(1.1).p50
    assert 1.05 < found.low < 1.1 < found.high < 1.15


def test_equal_models_are_equal() -> None:
    found = drawn(1.0)
    assert found.p50.holds(1.0)
    assert found.control.holds(1.0)
    assert found.p50.high < 1.05


@pytest.mark.parametrize("ratio", [1.0, 1.1])
def test_intervals_hold_the_truth_as_often_as_they_say(ratio: float) -> None:
    assert sum(drawn(ratio, seed).p50.holds(ratio) for seed in range(60)) >= 58


def test_the_control_knows_nothing_of_the_models() -> None:
    equal, slow = drawn(1.0).control, drawn(3.0).control
    assert slow.value == pytest.approx(equal.value)


def test_slow_first_sessions_are_no_difference() -> None:
    found = drawn(1.0, sessions=0.3)
    assert found.control.holds(1.0)
    assert found.p50.holds(1.0)


def test_the_control_sees_sessions_that_differ_by_model() -> None:
    """As where something runs beside every first session of the one and every second session of the other."""
    found = drawn(1.0)
    crossed = PairedRatio(found.old * np.array([1.3, 1.0])[:, None], found.new * np.array([1.0, 1.3])[:, None])
    assert crossed.control.low > 1.1


def test_the_p95_is_that_of_all_runs() -> None:
    found = drawn(1.0, drift=0.0)
    tail = found.new.copy()
    tail[..., 0] *= 2  # one run in ten
    slow = PairedRatio(found.old, tail)
    assert slow.p50.high < 1.1
    assert slow.p95.low > 1.5


def test_the_same_times_give_the_same_interval() -> None:
    assert drawn(1.1).p50 == drawn(1.1).p50


def test_more_confidence_is_a_wider_interval() -> None:
    found = drawn(1.1)
    sure, unsure = PairedRatio(found.old, found.new, 0.999).p50, PairedRatio(found.old, found.new, 0.8).p50
    assert sure.low < unsure.low < unsure.high < sure.high


def test_absolute_times_are_in_ms() -> None:
    found = drawn(2.0, drift=0.0, noise=0.01)
    assert found.absolute(50).value == pytest.approx(2.0, rel=0.02)
    assert found.absolute(95).low > found.absolute(50).high


def few(seed: int) -> PairedRatio:
    """Five rounds of one session each, as the stage baseline measures them, on a machine that drifts by 3 %."""
    rng = np.random.default_rng(seed)
    times = np.exp(rng.normal(0, 0.03, (5, 1, 1)) + rng.normal(0, 0.01, (5, 1, 20)))
    return PairedRatio(times, 0.4 * times, 0.95)


def test_times_of_few_rounds_hold_the_truth_as_often_as_they_say() -> None:
    samples = [few(seed) for seed in range(60)]
    assert sum(one.absolute(50).holds(0.4) for one in samples) >= 55
    assert sum(one.new_p50.holds(0.4) for one in samples) >= 55


def test_the_p50_of_a_model_is_that_of_the_other_times_the_ratio() -> None:
    found = drawn(1.5)
    assert found.new_p50.value == pytest.approx(np.median(found.old) * found.p50.value)
    assert found.new_p50.low < found.new_p50.value < found.new_p50.high


class Clock:
    """A runtime in which a file takes as many ms as its name says, and the first session of a call twice as many."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int, int]] = []

    def latency(self, models: Any, load: Load, rounds: int, runs: int, seed: int = 0) -> Any:
        self.asked.append(([model.stem for model in models], runs, seed))
        return [[[float(m.stem) * (2 if i == 0 else 1)] * runs] * rounds for i, m in enumerate(models)]


def test_rounds_take_turns_and_know_whose_times_are_whose() -> None:
    clock = Clock()
    found = list(islice(rounds_of(clock, Path("4.onnx"), Path("8.onnx"), Load(1, 1), seed=7), 2))  # type: ignore[arg-type]
    assert [asked for asked, _, _ in clock.asked] == [["4", "8", "8", "4"], ["8", "4", "4", "8"], ["4", "8", "8", "4"]]
    assert [seed for _, _, seed in clock.asked] == [7, 8, 9]
    assert [sorted(set(old.ravel())) for old, _ in found] == [[4.0], [4.0, 8.0]]
    assert [sorted(set(new.ravel())) for _, new in found] == [[8.0, 16.0], [8.0]]


@pytest.mark.parametrize(("caches", "runs"), [("hot", [5, 6, 6]), ("cold", [5, 5, 5])])
def test_sessions_with_cold_caches_are_short(caches: Caches, runs: list[int]) -> None:
    clock = Clock()
    list(islice(rounds_of(clock, Path("4.onnx"), Path("8.onnx"), Load(1, 1, caches)), 2))  # type: ignore[arg-type]
    assert [asked for _, asked, _ in clock.asked] == runs


def test_sessions_of_slow_models_are_short() -> None:
    assert [session_runs(ms) for ms in (0.1, 4.0, 100.0)] == [20, 10, 5]
