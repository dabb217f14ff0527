"""How often a model file is right."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from paredown.models.errors import InputError
from paredown.models.onnx.edit import save_onnx
from paredown.stages.base import State
from paredown.stages.measuring.accuracy import FileAnswers, accuracy, logits_of, scores_of
from paredown.stages.measuring.model_files import stored_model


def test_accuracy_is_the_share_that_is_right_in_points() -> None:
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1])) == 75


def test_a_file_is_scored_on_the_splits_that_are_named(started: State) -> None:
    file, data = stored_model(started.product("baseline")), started.open_data()
    scores = scores_of(file, started, data, ("calibration", "test"))
    assert scores.images == {"calibration": len(data.calibration), "test": len(data.test)}
    answers = logits_of(file, data, data.test, started).argmax(1)
    assert scores.accuracy["test"] == pytest.approx(100 * (answers == data.test.labels).mean())


def test_a_file_that_answers_otherwise_each_time_is_refused(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[1,4] x) => (float[1,4] y) { noise = RandomNormalLike(x) y = Add(x, noise) }"""
    save_onnx(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx: its answers change from call to call"):
        FileAnswers.read(tmp_path / "m.onnx", "abcd")
