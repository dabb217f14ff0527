"""ONNX files that were exported before `model.eval()`, or that draw numbers by chance."""

import io

import onnx
import pytest
import torch
from torch import nn

from paredown.models.onnx.unsteady_nodes import unsteady_complaint, unsteady_nodes


def _exported(training: bool) -> onnx.ModelProto:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2))
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    file = io.BytesIO()
    torch.onnx.export(layers.train(training), (torch.zeros(1, 3, 8, 8),), file, training=mode, dynamo=False)
    return onnx.load_from_string(file.getvalue())


def _graph(nodes: str) -> onnx.ModelProto:
    stored = "float ratio = {0.5}, bool on = {1}, bool off = {0}"
    head = f'<ir_version: 8, opset_import: ["": 17]> agraph (float[1,4] x) => (float[1,4] y) <{stored}>'
    return onnx.parser.parse_model(f"{head} {{ {nodes} }}")


@pytest.mark.filterwarnings("ignore")
def test_batch_norm_and_dropout_in_training_mode_are_named() -> None:
    complaint = unsteady_complaint(_exported(training=True))
    assert complaint.count("in training mode") == 2
    assert "(BatchNormalization in training mode)" in complaint
    assert "(Dropout in training mode)" in complaint
    assert "model.eval()" in complaint


@pytest.mark.filterwarnings("ignore")
def test_what_was_exported_in_eval_mode_is_steady() -> None:
    assert unsteady_complaint(_exported(training=False)) == ""


@pytest.mark.parametrize(
    ("inputs", "trains"), [("x", False), ("x, ratio", False), ("x, ratio, off", False), ("x, ratio, on", True)]
)
def test_dropout_trains_by_its_third_input_only(inputs: str, trains: bool) -> None:
    assert bool(unsteady_nodes(_graph(f"y = Dropout({inputs})"))) is trains


def test_noise_is_unsteady_and_many_nodes_are_shortened() -> None:
    noise = " ".join(f"n{i} = RandomNormalLike(x)" for i in range(5))
    complaint = unsteady_complaint(_graph(f"{noise} y = Add(x, n0)"))
    assert "'n0' (RandomNormalLike), 'n1' (RandomNormalLike), 'n2' (RandomNormalLike) and 2 more" in complaint
