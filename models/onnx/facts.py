"""Facts of any ONNX classifier without running it: bytes, parameters, multiply-adds, operators, precision per node."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Literal

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from paredown.models.onnx.checked_file import files_of, open_checked
from paredown.models.onnx.constants import INTEGER_PRODUCTS, Constants
from paredown.models.onnx.edit import FUSED
from paredown.models.onnx.integer_rules import IntegerRules, signed_kernels
from paredown.models.onnx.shapes import Shape, element_is_float, shapes_and_types
from paredown.models.onnx.walk import inner_graphs

FLOAT_CONVS = ("Conv", "ConvTranspose", "FusedConv")
FLOAT_PRODUCTS = ("Gemm", "MatMul", "FusedGemm", "FusedMatMul")
FLOAT_OPS = FLOAT_CONVS + FLOAT_PRODUCTS
INTEGER_OPS = (*INTEGER_PRODUCTS, "QLinearConv", "QLinearMatMul", "QGemm")
JOINS = ("Add", "Mul", "Concat")
"""Of two or more computed values."""
WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Place of the weight among a node's inputs, where it is not the second."""
TRAINED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT32)
"""Quantized weights, and biases as they are stored; int64 holds shapes and indices."""
STANDARD = ("", "ai.onnx")
COMPUTED_IN_FLOAT = frozenset((*FLOAT_OPS, *JOINS, "NhwcFusedConv", "MatMulNBits"))
"""Operators of a graph that onnxruntime optimised, and in which all integer ones have names of their own."""
SEEN_IN_FLOAT = "the runtime's own graph computes it in float"
Rules = Literal["onnxruntime", "any rounding"]
"""By which a node counts as int8: the optimiser of onnxruntime's, or that all it reads and gives is rounded."""


@dataclass(frozen=True)
class LayerFacts:
    """One node with the constants that only serve it, `bytes` of them; `macs` is None where shapes are not fixed.

    `precision` is `int8` or `fp32` of nodes that could be either, else empty; `why` says what keeps one in float that
    reads rounded values, `value` is the first that it gives.
    """

    name: str
    op: str
    bytes: int
    parameters: int
    macs: int | None
    precision: str = ""
    why: str = ""
    value: str = ""

    def __str__(self) -> str:
        precision = f", {self.precision}" if self.precision else ""
        return f"{self.name} ({self.op}{precision}{f': {self.why}' if self.why else ''})"


@dataclass(frozen=True)
class ModelFacts:
    """Of a file: `bytes` with what it keeps in other files, `opset` of the standard operators, and its nodes in order.

    Operators of other domains are written `domain::Op`.
    """

    bytes: int
    opset: int
    layers: tuple[LayerFacts, ...]

    @cached_property
    def parameters(self) -> int:
        """Weights, biases and other trained constants; scales, zero points and shapes do not count."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def macs(self) -> int | None:
        """Multiply-adds of one inference of the batch that the file has; None where a shape is not fixed."""
        counts = [layer.macs for layer in self.layers]
        return None if None in counts else sum(count for count in counts if count is not None)

    @cached_property
    def ops(self) -> Mapping[str, int]:
        """Operator to how often it is there, by name."""
        return dict(sorted(Counter(layer.op for layer in self.layers).items()))

    @cached_property
    def unquantized(self) -> tuple[LayerFacts, ...]:
        """The nodes that could compute in int8 and compute in float."""
        return tuple(layer for layer in self.layers if layer.precision == "fp32")

    def as_executed(self, operators: Mapping[str, str]) -> "ModelFacts":
        """The same with the precision that a runtime really computes in: `operators` has the first value of nodes to
        the operator that it executes in their place. Of nodes that are not named, what the rules say stays."""
        return replace(self, layers=tuple(_as_executed(layer, operators.get(layer.value)) for layer in self.layers))


def model_facts(path: Path, rules: Rules = "onnxruntime") -> ModelFacts:
    """The facts of an ONNX file, `.gz` or not; of int8 by the rules of a runtime. Raises InputError where it cannot be
    used."""
    model = open_checked(path)
    opset = max((item.version for item in model.opset_import if item.domain in STANDARD), default=0)
    return ModelFacts(sum(file.stat().st_size for file in files_of(path)), opset, tuple(layer_facts(model, rules)))


def rules_of(runtime: str) -> Rules:
    """The rules of a runtime by its name in a recipe: where none are known, the strict ones."""
    return "any rounding" if runtime == "openvino" else "onnxruntime"


def layer_facts(model: ModelProto, rules: Rules = "onnxruntime") -> Iterator[LayerFacts]:
    """Every node that computes something from the input, in order, functions written out and the graphs inside of nodes
    too (of branches all are listed, whichever is taken). What only prepares constants is part of its reader."""
    whole = whole_model(model)
    yield from _Layers(*shapes_and_types(whole), rules).of(whole.graph, None)


def whole_model(model: ModelProto) -> ModelProto:
    """The model with its functions written out where they are called; the very same object where it has none."""
    return inliner.inline_local_functions(model) if model.functions else model


def _as_executed(layer: LayerFacts, operator: str | None) -> LayerFacts:
    if not (layer.precision and operator):
        return layer
    if operator not in COMPUTED_IN_FLOAT:
        return replace(layer, precision="int8", why="")
    return layer if layer.precision == "fp32" else replace(layer, precision="fp32", why=SEEN_IN_FLOAT)


def operator(node: NodeProto) -> str:
    """The operator's name, with its domain where that is not the standard's."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


@dataclass(frozen=True)
class _Layers:
    """The shapes and element types of a model's values, by which its nodes are described."""

    known: Mapping[str, Shape]
    types: Mapping[str, int]
    rules: Rules

    def of(self, graph: GraphProto, around: Constants | None) -> Iterator[LayerFacts]:
        constants = Constants(graph, around)
        integers = IntegerRules(constants, frozenset(value.name for value in graph.output), signed_kernels())
        for node in graph.node:
            if constants.is_constant(node):
                continue
            owned = constants.owned.get(node.output[0], ())
            precision, why = self.precision(node, integers)
            yield LayerFacts(
                name=node.name or node.output[0],
                op=operator(node),
                bytes=sum(_bytes(one) for one in owned),
                parameters=sum(prod(one.dims) for one in owned if one.name not in constants.scales and _trained(one)),
                macs=self.macs(node, constants),
                precision=precision,
                why=why,
                value=node.output[0],
            )
            for inner in inner_graphs(node):
                yield from self.of(inner, constants)

    def precision(self, node: NodeProto, integers: IntegerRules) -> tuple[str, str]:
        """`int8` or `fp32` of a node that could be either, and why it is not int8 although something is rounded."""
        constants = integers.constants
        if node.op_type in INTEGER_OPS or node.op_type.startswith("QLinear"):
            return "int8", ""
        joins = node.op_type in JOINS and len(constants.computed(node)) > 1
        if node.op_type not in FLOAT_OPS and not (joins and self._joins_floats(node, constants)):
            return "", ""
        fault = integers.fault(node) if self.rules == "onnxruntime" else _rounding_fault(node, constants, joins)
        return ("int8", "") if fault is None else ("fp32", fault)

    def _joins_floats(self, node: NodeProto, constants: Constants) -> bool:
        """Whether a join is one of features: not of shapes, and not of the scales of integer products."""
        kind, sizes = self.types.get(node.output[0]), self.known.get(node.output[0])
        features = kind is None or element_is_float(kind)
        return features and (sizes is None or len(sizes) > 1) and not constants.rescales(node)

    def macs(self, node: NodeProto, constants: Constants) -> int | None:
        if node.op_type not in FLOAT_OPS + INTEGER_OPS:
            return 0
        weight = self.sizes(node.input[WEIGHT_AT.get(node.op_type, 1)], constants)
        taken, given = (self.sizes(value, constants) for value in (node.input[0], node.output[0]))
        if node.op_type == "ConvTranspose":
            return _product(taken, weight[1:])
        if "Conv" in node.op_type:
            return _product(given, weight[1:])
        turned = "Gemm" in node.op_type and any(a.name == "transB" and a.i for a in node.attribute)
        return _product(given, weight[-1:] if turned or len(weight) < 2 else weight[-2:-1])

    def sizes(self, value: str, constants: Constants) -> Shape:
        """The shape of a value, empty where it is not known."""
        tensor = constants.tensors.get(value)
        return tuple(tensor.dims) if tensor is not None else self.known.get(value, ())


def _product(outer: Shape, inner: Shape) -> int | None:
    """Multiply-adds; None where a size is not fixed."""
    sizes = (*outer, *inner)
    return prod(sizes) if outer and inner and min(sizes) >= 0 else None


def _rounding_fault(node: NodeProto, constants: Constants, joins: bool) -> str | None:
    """None where all that a node reads was rounded, and what it gives is rounded again. Matrix products may give
    floats, as the last one does."""
    rounded = [constants.dequantized(value) for value in (constants.computed(node) if joins else node.input[:2])]
    return None if all(rounded) and (node.op_type in FLOAT_PRODUCTS or _rounded(node, constants)) else ""


def _rounded(node: NodeProto, constants: Constants) -> bool:
    """Whether all that reads a node's value rounds it, perhaps behind an activation; the model's output counts."""
    after = constants.readers.get(node.output[0], [])
    if len(after) == 1 and after[0].op_type in FUSED:
        after = constants.readers.get(after[0].output[0], [])
    return all(reader.op_type == "QuantizeLinear" for reader in after)


def _bytes(tensor: TensorProto) -> int:
    four = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4)
    size: int = prod(tensor.dims)
    return (size + 1) // 2 if four else size * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _trained(tensor: TensorProto) -> bool:
    return tensor.data_type in TRAINED or element_is_float(tensor.data_type)
