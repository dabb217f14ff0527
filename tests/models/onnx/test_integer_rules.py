"""Rules of what onnxruntime computes with integers, beside the graphs that it really makes of the same models."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn

from paredown.models.onnx import integer_rules
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.export import export_onnx
from paredown.models.onnx.facts import LayerFacts, model_facts
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

DTYPES = {"u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "s32": np.int32}
MIDDLE, LEAST = {"u8": 128, "u16": 32768}, {"s8": -128, "s16": -32768}
IMAGE = (1, 8, 6, 6)

pytestmark = pytest.mark.skipif(integer_rules.signed_kernels(), reason="the graphs of a CPU with signed kernels differ")


class Graph:
    """Builds a model from the input `x`, node by node; methods return the value that they add."""

    def __init__(self, shape: tuple[int, ...] = IMAGE) -> None:
        self.shape, self.nodes, self.stored = shape, list[onnx.NodeProto](), list[onnx.TensorProto]()

    def constant(self, value: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(np.array(value), f"c{len(self.stored)}"))
        return self.stored[-1].name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [*inputs], [value], name=f"n{len(self.nodes)}", **attributes))
        return value

    def tested(self, op: str, *inputs: str, **attributes: object) -> str:
        value = self.node(op, *inputs, **attributes)
        self.nodes[-1].name = "tested"
        return value

    def rounded(self, value: str, kind: str | None, scale: float = 0.1, zero: int | None = None) -> str:
        """Through QuantizeLinear and DequantizeLinear; of no kind: as it is."""
        if kind is None:
            return value
        point = self.constant(DTYPES[kind](MIDDLE.get(kind, 0) if zero is None else zero))
        step = self.constant(np.float32(scale))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, step, point), step, point)

    def weight(self, kind: str | None, sizes: tuple[int, ...], axis: int | None = None, zero: int = 0) -> str:
        """A weight; one scale for each place along `axis`, else one for all. Of no kind: floats."""
        numbers = np.random.default_rng(0).integers(-7, 8, sizes)
        if kind is None:
            return self.constant(numbers.astype(np.float32))
        middle = MIDDLE.get(kind, 0) + zero
        shape = () if axis is None else (sizes[axis],)
        scale, point = np.full(shape, 0.01, np.float32), np.full(shape, middle, DTYPES[kind])
        stored = [self.constant(one) for one in ((numbers + middle).astype(DTYPES[kind]), scale, point)]
        return self.node("DequantizeLinear", *stored, axis=1 if axis is None else axis)

    def layer(self, op: str, value: str, kind: str | None = "s8", axis: bool = False, zero: int = 0) -> str:
        """A Conv, a grouped one, a product or a join; joins read the input once more."""
        out = 0 if axis else None
        if op in ("Conv", "ConvTranspose"):
            return self.tested(op, value, self.weight(kind, (8, 8, 3, 3), out, zero))
        if op == "depthwise":
            return self.tested("Conv", value, self.weight(kind, (8, 1, 3, 3), out, zero), group=8)
        if op == "Gemm":
            return self.tested(op, value, self.weight(kind, (4, 8), out, zero), transB=1)
        if op == "MatMul":
            return self.tested(op, value, self.weight(kind, (8, 4), 1 if axis else None, zero))
        second = self.rounded(self.node("Relu", "x"), None if kind is None else kind, 0.07)
        return self.tested(op, value, second, **({"axis": 1} if op == "Concat" else {}))

    def model(self, result: str) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model)  # the output's shape


def graph_for(op: str) -> Graph:
    return Graph((1, 8) if op in ("Gemm", "MatMul") else IMAGE)


Judged = Callable[[onnx.ModelProto], tuple[str, str]]


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    """(precision, why) of the tested node by the rules, which onnxruntime's own graph must bear out."""

    def judge(model: onnx.ModelProto) -> tuple[str, str]:
        save_onnx(model, tmp_path / "m.onnx")
        by_rules, executed = model_facts(tmp_path / "m.onnx"), OnnxRuntime().executed_operators(tmp_path / "m.onnx")
        layer = next(one for one in by_rules.layers if one.name == "tested")
        seen = next(one for one in by_rules.as_executed(executed).layers if one.name == "tested")
        assert layer.value in executed
        assert (layer.precision, layer.why) == (seen.precision, seen.why), executed[layer.value]
        return layer.precision, layer.why

    return judge


WEIGHTED = ("Conv", "depthwise", "Gemm", "MatMul")
JOINS = ("Add", "Mul", "Concat")


@pytest.mark.parametrize("op", [*WEIGHTED, "ConvTranspose"])
def test_types_of_activations_and_weights(op: str, judged: Judged) -> None:
    for activation, weight, axis in itertools.product(("u8", "s8", "u16", "s16"), ("u8", "s8", "s16"), (False, True)):
        graph = graph_for(op)
        value = graph.layer(op, graph.rounded("x", activation), weight, axis and op != "ConvTranspose")
        found = judged(graph.model(graph.rounded(value, activation)))
        kept = op != "ConvTranspose" and activation.endswith("8") and weight.endswith("8")
        assert found[0] == ("int8" if kept else "fp32"), (activation, weight, axis)
        assert bool(found[1]) != kept


@pytest.mark.parametrize("op", JOINS)
def test_types_of_joined_values(op: str, judged: Judged) -> None:
    kinds = ("u8", "s8", "u16", None)
    for first, second, result in itertools.product(kinds, kinds, kinds):
        graph = Graph()
        value = graph.layer(op, graph.rounded("x", first), second)
        kept = {first, second, result} <= {"u8", "s8"}
        assert (judged(graph.model(graph.rounded(value, result)))[0] == "int8") == kept, (first, second, result)


@pytest.mark.parametrize("op", [*WEIGHTED, *JOINS])
@pytest.mark.parametrize("kind", ["u8", "s8"])
def test_signed_values_that_two_nodes_read_stay_floats(op: str, kind: str, judged: Judged) -> None:
    expected = ("int8", "") if kind == "u8" else ("fp32", integer_rules.SIGNED)
    graph = graph_for(op)
    read = graph.rounded("x", kind)
    given = graph.rounded(graph.layer(op, read, "s8"), kind)
    other = graph.node("ReduceMean", graph.node("Sigmoid", read), keepdims=0)
    assert judged(graph.model(graph.node("Add", given, other))) == expected
    graph = graph_for(op)
    given = graph.rounded(graph.layer(op, graph.rounded("x", kind), "s8"), kind)
    result = graph.node("Sub", graph.node("Sigmoid", given), graph.node("Tanh", given))
    assert judged(graph.model(result)) == expected


@pytest.mark.parametrize("op", [*WEIGHTED, *JOINS])
def test_activations_that_the_rounding_replaces(op: str, judged: Judged) -> None:
    bounds = {"Relu": (), "Clip": (0, 6), "narrow": (-1, 1)}
    for (name, cut), kind, scale in itertools.product(bounds.items(), ("u8", "s8"), (6 / 255, 0.1)):
        for zero in (LEAST.get(kind, 0), MIDDLE.get(kind, 0)):
            graph = graph_for(op)
            value = graph.layer(op, graph.rounded("x", kind), "s8")
            limits = [graph.constant(np.float32(one)) for one in cut]
            value = graph.node("Relu" if name == "Relu" else "Clip", value, *limits)
            found = judged(graph.model(graph.rounded(value, kind, scale, zero)))
            replaced = zero == LEAST.get(kind, 0) and (name == "Relu" or (name == "Clip" and scale < 0.1))
            expected = ("int8", "") if replaced else ("fp32", integer_rules.ACTIVATION)
            assert found == expected, (name, kind, scale, zero)


@pytest.mark.parametrize("op", [*WEIGHTED, *JOINS])
@pytest.mark.parametrize("activation", ["HardSwish", "Sigmoid", "LeakyRelu"])
def test_other_activations_stay_between(op: str, activation: str, judged: Judged) -> None:
    graph = graph_for(op)
    value = graph.node(activation, graph.layer(op, graph.rounded("x", "u8"), "s8"))
    # Products give floats to them; what has no such form computes in float.
    expected = "int8" if op in ("Gemm", "MatMul") else "fp32"
    assert judged(graph.model(graph.rounded(value, "u8")))[0] == expected


Build = Callable[[Graph, str], str]
EDGES = [0, 0, 1, 1, 0, 0, 1, 1]
ONES = np.ones(4, np.float32)
INT8, FP32 = "int8", "fp32"


def _padded(graph: Graph, read: str, **mode: str) -> str:
    return graph.node("Pad", read, graph.constant(np.array(EDGES)), **mode)


def _gemm(graph: Graph, read: str, *bias: np.ndarray, **attributes: float) -> str:
    return graph.tested("Gemm", read, graph.weight("s8", (8, 4)), *map(graph.constant, bias), **attributes)


def _with_floats_too(graph: Graph, read: str, op: str) -> str:
    value = graph.layer(op, read)
    return graph.node("Sub", graph.node("Sigmoid", value), graph.node("Tanh", graph.rounded(value, "u8")))


BETWEEN: list[tuple[str, str, Build]] = [  # what is built reads a rounded value, and is rounded
    ("weights with a zero point", INT8, lambda g, x: g.layer("Conv", x, zero=3)),
    ("float weights that onnxruntime rounds", INT8, lambda g, x: g.layer("Conv", x, None)),
    ("zeros around", INT8, lambda g, x: g.layer("Conv", _padded(g, x))),
    ("mirrored around", FP32, lambda g, x: g.layer("Conv", _padded(g, x, mode="reflect"))),
    ("a second value in float", FP32, lambda g, x: g.layer("Add", x, None)),
    ("behind MaxPool", INT8, lambda g, x: g.layer("Conv", g.node("MaxPool", x, kernel_shape=[1, 1]))),
    ("behind AveragePool", FP32, lambda g, x: g.layer("Conv", g.node("AveragePool", x, kernel_shape=[1, 1]))),
    ("behind Relu", FP32, lambda g, x: g.layer("Conv", g.node("Relu", x))),
    ("behind Transpose", INT8, lambda g, x: g.layer("Conv", g.node("Transpose", x, perm=[0, 1, 3, 2]))),
    ("before Transpose", INT8, lambda g, x: g.node("Transpose", g.layer("Conv", x), perm=[0, 1, 3, 2])),
    ("before Identity", INT8, lambda g, x: g.node("Identity", g.layer("Conv", x))),
    ("before Flatten", FP32, lambda g, x: g.node("Flatten", g.layer("Conv", x))),
]
PRODUCTS: list[tuple[str, str, Build]] = [  # what is built reads rounded vectors, and is rounded
    ("float weights of a MatMul", FP32, lambda g, x: g.layer("MatMul", x, None)),
    ("behind Flatten", FP32, lambda g, x: g.layer("Gemm", g.node("Flatten", x))),
    ("one scale per input", FP32, lambda g, x: g.tested("Gemm", x, g.weight("s8", (4, 8), 1), transB=1)),
    ("a factor", INT8, lambda g, x: _gemm(g, x, alpha=0.5)),
    ("a factor beside a bias", FP32, lambda g, x: _gemm(g, x, ONES, beta=0.5)),
    ("a float bias", INT8, lambda g, x: _gemm(g, x, ONES)),
    ("a bias that is added", INT8, lambda g, x: g.node("Add", g.layer("MatMul", x), g.constant(ONES))),
]
ENDS: list[tuple[str, str, Build]] = [  # what is built reads rounded vectors or images, and is the output
    ("a layer", FP32, lambda g, x: g.layer("Conv", x)),
    ("a product", INT8, lambda g, x: g.layer("Gemm", x)),
    ("a MatMul", INT8, lambda g, x: g.layer("MatMul", x)),
    ("a product with a float bias", FP32, lambda g, x: _gemm(g, x, ONES)),
    ("a layer that is read as floats too", FP32, lambda g, x: _with_floats_too(g, x, "Conv")),
    ("a product that is read as floats too", FP32, lambda g, x: _with_floats_too(g, x, "Gemm")),
    ("only weights are rounded", FP32, lambda g, _: g.layer("Conv", "x")),
    ("only weights of a MatMul are rounded", FP32, lambda g, _: g.layer("MatMul", "x")),
]
ALL = [(IMAGE, True, *one) for one in BETWEEN] + [((1, 8), True, *one) for one in PRODUCTS]
ALL += [(IMAGE if "layer" in one[0] or "only weights are" in one[0] else (1, 8), False, *one) for one in ENDS]


@pytest.mark.parametrize(("shape", "rounded", "name", "precision", "build"), ALL, ids=[one[2] for one in ALL])
def test_odd_forms(
    shape: tuple[int, ...], rounded: bool, name: str, precision: str, build: Build, judged: Judged
) -> None:
    graph = Graph(shape)
    value = build(graph, graph.rounded("x", "u8"))
    assert judged(graph.model(graph.rounded(value, "u8" if rounded else None)))[0] == precision


def test_with_signed_kernels_signed_values_are_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    read = graph.rounded("x", "s8")
    save_onnx(graph.model(graph.rounded(graph.layer("Add", read, "s8"), "s8")), tmp_path / "m.onnx")
    given = graph.rounded(graph.node("Sigmoid", read), "s8")
    save_onnx(graph.model(graph.rounded(graph.layer("Add", given, "s8"), "s8")), tmp_path / "twice.onnx")
    for signed, unquantized in ((False, 1), (True, 0)):
        monkeypatch.setattr("platform.machine", lambda signed=signed: "aarch64" if signed else "x86_64")
        first = [one for one in model_facts(tmp_path / "twice.onnx").unquantized if one.name == "tested"]
        assert len(first) == unquantized


SHAPE = (3, 24, 24)


class _Images:
    def __init__(self) -> None:
        self.left = [np.random.default_rng(i).standard_normal((1, *SHAPE), np.float32) for i in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"x": self.left.pop()} if self.left else None


@pytest.fixture
def quantized(net: nn.Module, tmp_path: Path) -> Callable[..., Path]:
    """The small network as onnxruntime's own tools quantize it."""
    plain, path = tmp_path / "plain.onnx", tmp_path / "q.onnx"
    save_onnx(export_onnx(net.eval(), SHAPE), plain)

    def quantize(form: str, activation: QuantType, weight: QuantType, per_channel: bool) -> Path:
        if form == "dynamic":
            quantize_dynamic(plain, path, per_channel=per_channel, weight_type=weight)
        else:
            kinds = {"activation_type": activation, "weight_type": weight, "per_channel": per_channel}
            name, _, pairs = form.partition(" ")
            options = {"DedicatedQDQPair": bool(pairs)}
            quantize_static(plain, path, _Images(), quant_format=QuantFormat[name], extra_options=options, **kinds)
        return path

    return quantize


FORMS = [
    ("QDQ", QuantType.QUInt8, 0),
    ("QDQ", QuantType.QInt8, 3),
    ("QDQ", QuantType.QUInt16, 7),
    ("QDQ pairs", QuantType.QUInt8, 0),
    ("QDQ pairs", QuantType.QInt8, 3),
    ("QOperator", QuantType.QUInt8, 0),
    ("dynamic", QuantType.QUInt8, 1),
]


@pytest.mark.parametrize(("form", "activation", "floats"), FORMS)
@pytest.mark.parametrize("weight", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_forms_of_onnxruntimes_own_tools(
    quantized: Callable[..., Path],
    form: str,
    activation: QuantType,
    floats: int,
    weight: QuantType,
    per_channel: bool,
) -> None:
    if activation == QuantType.QInt8 and weight == QuantType.QUInt8:
        return  # the tools refuse it
    path = quantized(form, activation, weight, per_channel)
    facts = model_facts(path)
    seen = facts.as_executed(OnnxRuntime().executed_operators(path))
    assert _names(facts.unquantized) == _names(seen.unquantized)
    assert len(facts.unquantized) == floats


def _names(layers: tuple[LayerFacts, ...]) -> list[str]:
    return [layer.name for layer in layers]
