"""What is known of an ONNX file without running it."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn

from paredown.models.compression.conv_integer import conv_integer
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.errors import InputError
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.export import export_onnx
from paredown.models.onnx.facts import ModelFacts, model_facts
from paredown.stages.analysis.prepared_model import PreparedModel

SHAPE = (3, 24, 24)


@pytest.fixture
def plain(net: nn.Module, tmp_path: Path) -> Path:
    save_onnx(export_onnx(copy.deepcopy(net), SHAPE), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def facts(model: onnx.ModelProto, path: Path) -> ModelFacts:
    save_onnx(model, path)
    return model_facts(path)


def by_name(found: ModelFacts) -> dict[str, tuple[int, int | None, int]]:
    return {layer.name: (layer.parameters, layer.macs, layer.bytes) for layer in found.layers}


def test_parameters_and_multiply_adds_are_those_of_the_layers(prepared: PreparedModel, tmp_path: Path) -> None:
    layers = by_name(facts(prepared.model, tmp_path / "m.onnx"))
    assert layers["stem.0"] == (16 * 3 * 9 + 16, 12 * 12 * 16 * 3 * 9, 4 * (16 * 3 * 9 + 16))
    assert layers["depthwise"][:2] == (16 * 9 + 16, 6 * 6 * 16 * 9)
    assert layers["fc"][:2] == (48 * 3 + 3, 48 * 3)


def test_bytes_are_the_files_and_nearly_all_have_an_owner(plain: Path) -> None:
    found = model_facts(plain)
    assert found.bytes == plain.stat().st_size
    assert 0 < found.bytes - sum(layer.bytes for layer in found.layers) < 4096


def test_int8_has_the_same_parameters_in_a_quarter_of_the_bytes(prepared: PreparedModel, tmp_path: Path) -> None:
    model = prepared.model
    before = facts(model, tmp_path / "m.onnx")
    after = facts(insert_qdq(model, quantizable_nodes(model), prepared.ranges, 8), tmp_path / "q.onnx")
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    assert by_name(after)["block.conv2"][2] < 0.4 * by_name(before)["block.conv2"][2]
    assert len(before.unquantized) == 7  # six layers and the addition
    assert after.unquantized == ()


def test_one_layer_left_in_float_is_seen(prepared: PreparedModel, tmp_path: Path) -> None:
    for left in quantizable_nodes(prepared.model):
        others = [name for name in quantizable_nodes(prepared.model) if name != left]
        found = facts(insert_qdq(prepared.model, others, prepared.ranges, 8), tmp_path / "q.onnx")
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
    assert [layer.name for layer in found.layers] == ["a", "y"]  # nodes without a name have their value's


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
    assert model_facts(path).bytes == path.stat().st_size + 128


SQUARE = [("w", np.ones((8, 8, 3, 3), np.float32)), ("v", np.ones((8, 8, 3, 3), np.float32))]


def _net(
    nodes: list[onnx.NodeProto],
    constants: list[tuple[str, np.ndarray]],
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """From images `x` to `y`, both (1, 8, 6, 6)."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 6, 6]) for name in ("x", "y"))
    stored = [numpy_helper.from_array(value, name) for name, value in constants]
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=10)


def _conv(inputs: list[str], output: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs, [output], name=name, pads=[1, 1, 1, 1])


TWO = [_conv(["x", "w"], "a", "first"), _conv(["a", "v"], "y", "second")]
MACS = 36 * 8 * 8 * 9


def test_what_a_function_does_counts(tmp_path: Path) -> None:
    body = [_conv(["p", "q"], "m", "f1"), _conv(["m", "r"], "o", "f2")]
    function = helper.make_function("own", "Two", ["p", "q", "r"], ["o"], body, [helper.make_opsetid("", 20)])
    node = helper.make_node("Two", ["x", "w", "v"], ["y"], domain="own", name="two")
    found = facts(_net([node], SQUARE, [function], ["own"]), tmp_path / "m.onnx")
    assert (found.macs, found.parameters, found.ops) == (2 * MACS, 2 * 576, {"Conv": 2})


def test_what_branches_do_counts(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [_conv(["a", "v"], "o", "inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 8, 6, 6])],
    )
    choose = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    found = facts(_net([TWO[0], choose], [*SQUARE, ("c", np.array(True))]), tmp_path / "m.onnx")
    assert found.ops == {"Conv": 3, "If": 1}
    assert found.macs == 3 * MACS
    assert len(found.unquantized) == 3


def test_nodes_of_one_name_are_two(tmp_path: Path) -> None:
    nodes = [_conv(["x", "w"], "a", "conv"), _conv(["a", "v"], "y", "conv")]
    found = facts(_net(nodes, SQUARE), tmp_path / "m.onnx")
    assert (found.parameters, found.macs) == (2 * 576, 2 * MACS)


def test_a_weight_that_is_computed_has_a_shape(tmp_path: Path) -> None:
    made = [
        helper.make_node("Cast", ["q"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "c"], ["v"]),
    ]
    constants = [SQUARE[0], ("q", np.ones((8, 8, 3, 3), np.int8)), ("s", np.float32([0.1]))]
    found = facts(_net([*made, *TWO], constants), tmp_path / "m.onnx")
    assert found.macs == 2 * MACS
    assert found.layers[1].bytes == 576 + 4


def test_constants_that_are_lists_are_stored_too(tmp_path: Path) -> None:
    made = [
        helper.make_node("Constant", [], ["flat"], value_floats=[1.0] * 576),
        helper.make_node("Reshape", ["flat", "shape"], ["v"]),
    ]
    found = facts(_net([*made, *TWO], [SQUARE[0], ("shape", np.array([8, 8, 3, 3]))]), tmp_path / "m.onnx")
    assert (found.parameters, found.macs) == (2 * 576, 2 * MACS)


def test_fused_convolutions_of_onnxruntime_are_floats(tmp_path: Path) -> None:
    fused = helper.make_node(
        "FusedConv", ["a", "v"], ["y"], name="fused", domain="com.microsoft", activation="Relu", pads=[1, 1, 1, 1]
    )
    found = facts(_net([TWO[0], fused], SQUARE, domains=["com.microsoft"]), tmp_path / "m.onnx")
    assert found.macs == 2 * MACS
    assert [layer.name for layer in found.unquantized] == ["first", "fused"]


def test_shapes_are_no_features(tmp_path: Path) -> None:
    """A channel shuffle as exporters write it, with sizes that are put together at run time."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "n"], ["nn"], axis=0),
        helper.make_node("Add", ["nn", "nn"], ["more"]),
        helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    found = facts(_net(nodes, [("zero", np.array([0]))]), tmp_path / "m.onnx")
    assert found.unquantized == ()


class _Images:
    """Calibration data as onnxruntime's quantizer reads it."""

    def __init__(self) -> None:
        self.left = [np.random.default_rng(i).standard_normal((1, *SHAPE), np.float32) for i in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"x": self.left.pop()} if self.left else None


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic", "ConvInteger"])
def test_int8_of_every_form_has_the_same_facts(plain: Path, tmp_path: Path, form: str, prepared: PreparedModel) -> None:
    before, path = model_facts(plain), tmp_path / "int8.onnx"
    if form == "ConvInteger":
        before = facts(prepared.model, plain)
        save_onnx(conv_integer(insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 8)), path)
    elif form == "dynamic":
        quantize_dynamic(plain, path)
    else:
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        quantize_static(plain, path, _Images(), quant_format=QuantFormat[form], **kinds)
    after = model_facts(path)
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    assert after.bytes < before.bytes
    assert [layer.name for layer in after.unquantized] == (["add"] if form == "dynamic" else [])


def test_a_pointer_of_git_lfs_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="git lfs pull"):
        model_facts(tmp_path / "m.onnx")
