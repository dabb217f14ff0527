"""Integer layers at opset 17: they compute what the QDQ form computes, and only what must change changes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import nn

from paredown.models.compression.conv_integer import IR, OPSET, conv_integer
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.compression.resolution import shrink_onnx
from paredown.models.errors import InputError
from paredown.models.onnx.edit import constant_arrays, copy_of_model, weighted_nodes
from paredown.stages.analysis.prepared_model import PreparedModel


def run(model: ModelProto, images: np.ndarray) -> np.ndarray:
    """Logits, node by node as the file says, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": image[None]})[0] for image in images])


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.fixture(scope="module")
def images(tools: Any) -> np.ndarray:
    noise: np.ndarray = torch.randn(16, *tools.shape, generator=torch.Generator().manual_seed(3)).numpy()
    return noise


class Gated(nn.Module):
    """A gate over channels, SiLU, pooling windows and a biased convolution over grouped channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.pool = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2))
        self.squeeze, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.wide = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.fc = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        gate = torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        x = torch.relu(self.wide(x * torch.sigmoid(self.excite(gate))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def gated(tools: Any) -> PreparedModel:
    torch.manual_seed(0)
    found: PreparedModel = tools.subject_of(tools.warmed(Gated()))
    return found


@pytest.fixture(params=["net", "gated"])
def either(request: pytest.FixtureRequest, prepared: PreparedModel, gated: PreparedModel) -> PreparedModel:
    return {"net": prepared, "gated": gated}[request.param]


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_it_computes_what_the_qdq_form_computes(
    either: PreparedModel, images: np.ndarray, bits: int, left_out: int
) -> None:
    """With all layers in int8, and with one in three in float."""
    chosen = [
        name for place, name in enumerate(quantizable_nodes(either.model)) if not left_out or place % 3 != left_out
    ]
    model = insert_qdq(either.model, chosen, either.ranges, bits)
    lowered = conv_integer(model)
    onnx.checker.check_model(lowered, full_check=True)
    expected, plain = run(model, images), run(either.model, images)
    assert np.abs(expected - plain).mean() > 1e-3 * plain.std()
    assert np.abs(run(lowered, images) - expected).mean() < 0.05 * np.abs(expected - plain).mean()
    integer = [name for name, _ in weighted_nodes(either.model) if name in chosen]
    assert [node.name for node in lowered.graph.node if node.op_type.endswith("Integer")] == integer
    assert not any(node.name.endswith(".guard") for node in lowered.graph.node)


def test_a_float_model_is_the_same_at_an_older_opset(either: PreparedModel, images: np.ndarray) -> None:
    lowered = conv_integer(either.model)
    assert (lowered.opset_import[0].version, lowered.ir_version) == (OPSET, IR)
    onnx.checker.check_model(lowered, full_check=True)
    assert kinds(lowered) == kinds(either.model)
    np.testing.assert_allclose(run(lowered, images), run(either.model, images), atol=1e-6)


def test_the_given_model_is_left_untouched(prepared: PreparedModel) -> None:
    model = insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7)
    before = copy_of_model(model)
    conv_integer(model)
    assert before == model


def test_layers_keep_their_names_and_every_one_states_a_zero_point_of_its_weights(prepared: PreparedModel) -> None:
    """DeepSparse aborts the process where one does not."""
    lowered = conv_integer(insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7))
    constants = constant_arrays(lowered)
    layers = [node for node in lowered.graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    assert [node.name for node in layers] == [name for name, _ in weighted_nodes(prepared.model)]
    assert all(constants[node.input[3]] == 0 and constants[node.input[3]].dtype == np.int8 for node in layers)


def test_it_holds_the_weights_once_and_nothing_unread(prepared: PreparedModel) -> None:
    lowered = conv_integer(insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7))
    read = {value for node in lowered.graph.node for value in node.input}
    assert {item.name for item in lowered.graph.initializer} <= read
    stored = sum(
        value.nbytes for value in constant_arrays(lowered).values() if value.dtype == np.int8 and value.size > 1
    )
    assert stored == sum(
        constant_arrays(prepared.model)[node.input[1]].size for _, node in weighted_nodes(prepared.model)
    )


def test_a_smaller_input_is_taken_along(prepared: PreparedModel, images: np.ndarray) -> None:
    small = shrink_onnx(prepared.model, 16)
    lowered = conv_integer(small)
    onnx.checker.check_model(lowered, full_check=True)
    np.testing.assert_array_equal(run(lowered, images), run(small, images))


def reducing(nodes: list[onnx.NodeProto]) -> ModelProto:
    """x (1, 3, 8, 8) to logits by `nodes`; `axes` are 2 and 3."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [made], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax"])
def test_axes_become_an_attribute(kind: str) -> None:
    model = reducing([helper.make_node(kind, ["x", "axes"], ["logits"], "r", keepdims=0)])
    lowered = conv_integer(model)
    onnx.checker.check_model(lowered, full_check=True)
    assert "axes" not in constant_arrays(lowered)
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(run(lowered, images), run(model, images))


def test_attributes_that_are_newer_go_where_they_say_nothing() -> None:
    nodes = [helper.make_node("AveragePool", ["x"], ["logits"], "p", kernel_shape=[2, 2], dilations=[1, 1])]
    lowered = conv_integer(reducing([helper.make_node("Cast", ["x"], ["logits"], "c", to=1, saturate=1)]))
    onnx.checker.check_model(lowered, full_check=True)
    assert [a.name for a in lowered.graph.node[0].attribute] == ["to"]
    onnx.checker.check_model(conv_integer(reducing(nodes)), full_check=True)
    nodes[0].attribute[0].ints[0] = 2
    with pytest.raises(InputError, match=r"AveragePool \(p\) with dilations needs a newer opset than 17"):
        conv_integer(reducing(nodes))


def test_an_operator_that_is_newer_is_refused() -> None:
    with pytest.raises(InputError, match=r"the operator Gelu \(g\) needs a newer opset than 17"):
        conv_integer(reducing([helper.make_node("Gelu", ["x"], ["logits"], "g")]))
