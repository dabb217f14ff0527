"""How many points were lost, and how sure that is."""

import numpy as np
import pytest

from paredown.pipeline.promises.answered import lost_points
from paredown.stages.measuring.answers import Answers


def answers(right: np.ndarray) -> Answers:
    """Answers that are right where `right` says so."""
    labels = np.zeros(len(right), np.int64)
    return Answers(np.eye(2, dtype=np.float32)[(~right).astype(int)], labels)


def test_equal_answers_lose_nothing_and_others_count_in_pairs() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(2000) < 0.8
    same = lost_points(answers(before), answers(before), 0.99)
    assert same.value == 0 and same.high < 0.1
    after = before & (np.arange(2000) % 20 != 0)
    lost = lost_points(answers(before), answers(after), 0.99)
    assert lost.value == pytest.approx(100 * (before.mean() - after.mean()))
    unpaired = 2.58 * 100 * np.sqrt(2 * 0.8 * 0.2 / 2000)
    assert lost.low > 0 and lost.high - lost.low < 2 * unpaired * 0.7


def test_the_interval_holds_the_true_loss_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        before = rng.random(300) < 0.8
        after = np.where(rng.random(300) < 0.1, rng.random(300) < 0.5, before)
        interval = lost_points(answers(before), answers(after), 0.99)
        held += interval.holds(100 * (0.8 - (0.9 * 0.8 + 0.1 * 0.5)))
    assert held >= 0.98 * 400
