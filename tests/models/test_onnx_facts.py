"""What is known of an ONNX file without running it."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from paredown.models.onnx_export import export
from paredown.models.onnx_facts import Facts, facts_of
from paredown.models.onnx_graph import save
from paredown.models.qdq import quantize, units
from paredown.stages.transforms.base import Subject

SHAPE = (3, 24, 24)


@pytest.fixture
def plain(net: nn.Module, tmp_path: Path) -> Path:
    save(export(copy.deepcopy(net), SHAPE), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def facts(model: onnx.ModelProto, path: Path) -> Facts:
    save(model, path)
    return facts_of(path)


def by_name(found: Facts) -> dict[str, tuple[int, int | None, int]]:
    return {layer.name: (layer.parameters, layer.macs, layer.bytes) for layer in found.layers}


def test_parameters_and_multiply_adds_are_those_of_the_layers(subject: Subject, tmp_path: Path) -> None:
    layers = by_name(facts(subject.model, tmp_path / "m.onnx"))
    assert layers["stem.0"] == (16 * 3 * 9 + 16, 12 * 12 * 16 * 3 * 9, 4 * (16 * 3 * 9 + 16))
    assert layers["depthwise"][:2] == (16 * 9 + 16, 6 * 6 * 16 * 9)
    assert layers["fc"][:2] == (48 * 3 + 3, 48 * 3)


def test_bytes_are_the_files_and_nearly_all_have_an_owner(plain: Path) -> None:
    found = facts_of(plain)
    assert found.bytes == plain.stat().st_size
    assert 0 < found.bytes - sum(layer.bytes for layer in found.layers) < 4096


def test_int8_has_the_same_parameters_in_a_quarter_of_the_bytes(subject: Subject, tmp_path: Path) -> None:
    model = subject.model
    before = facts(model, tmp_path / "m.onnx")
    after = facts(quantize(model, units(model), subject.ranges, 8), tmp_path / "q.onnx")
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    assert by_name(after)["block.conv2"][2] < 0.4 * by_name(before)["block.conv2"][2]
    assert len(before.unquantized) == 7  # six layers and the addition
    assert after.unquantized == ()


def test_one_layer_left_in_float_is_seen(subject: Subject, tmp_path: Path) -> None:
    for left in units(subject.model):
        others = [name for name in units(subject.model) if name != left]
        found = facts(quantize(subject.model, others, subject.ranges, 8), tmp_path / "q.onnx")
        # An addition between int8 layers computes in int8, whatever was meant.
        assert [layer.name for layer in found.unquantized] == [left] * (left != "add")


def test_operators_are_counted_with_their_domain(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y"))
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Gelu", ["a"], ["y"], domain="com.microsoft")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets, ir_version=8)
    found = facts(model, tmp_path / "m.onnx")
    assert found.ops == {"Relu": 1, "com.microsoft::Gelu": 1}
    assert found.opset == 17
    assert [layer.name for layer in found.layers] == ["a", "y"]  # nodes without a name are told by their value


def _gemm(constants: list[tuple[str, np.ndarray]], nodes: list[onnx.NodeProto], batch: int | str) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])
    stored = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_an_open_batch_counts_as_one(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    model = _gemm([("w", np.zeros((8, 4), np.float32))], [node], "batch")
    assert facts(model, tmp_path / "m.onnx").macs == 32


def test_what_only_prepares_a_weight_belongs_to_its_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], name="turn"),
        helper.make_node("Gemm", ["x", "wt"], ["y"], name="layer"),
    ]
    found = facts(_gemm([("w", np.zeros((4, 8), np.float32))], nodes, 1), tmp_path / "m.onnx")
    assert by_name(found) == {"layer": (32, 32, 128)}


def test_external_data_counts(tmp_path: Path) -> None:
    model = _gemm([("w", np.ones((8, 4), np.float32))], [helper.make_node("Gemm", ["x", "w"], ["y"], name="g")], 1)
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert facts_of(path).bytes == path.stat().st_size + 128
