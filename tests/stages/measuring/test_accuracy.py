"""How often a model file is right."""

import numpy as np
import pytest

from paredown.stages.base import State
from paredown.stages.measuring.accuracy import accuracy, logits_of, scores_of
from paredown.stages.measuring.model_files import stored_model


def test_accuracy_is_the_share_that_is_right_in_points() -> None:
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1])) == 75


def test_a_file_is_scored_on_the_splits_that_are_named(started: State) -> None:
    file, data = stored_model(started.product("baseline")), started.open_data()
    scores = scores_of(file, started, data, ("calibration", "test"))
    assert scores.images == {"calibration": len(data.calibration), "test": len(data.test)}
    answers = logits_of(file, data, data.test, started).argmax(1)
    assert scores.accuracy["test"] == pytest.approx(100 * (answers == data.test.labels).mean())
