"""The learning rate of every step."""

import pytest

from paredown.stages.training.schedule import Schedule, learning_rate_share


def test_it_rises_over_a_tenth_and_falls_to_nothing() -> None:
    shares = [learning_rate_share(step, 50) for step in range(51)]
    assert shares[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[50] == pytest.approx(0)


def test_a_single_step_is_at_the_peak() -> None:
    assert learning_rate_share(0, 1) == learning_rate_share(0, 0) == 1


def test_a_schedule_may_train_for_no_epochs() -> None:
    assert Schedule(epochs=0).epochs == 0
