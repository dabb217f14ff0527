"""Facts of any ONNX classifier without running it: bytes, parameters, multiply-adds, operators, precision per node."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from paredown.models.onnx.checked_file import files_of, open_checked
from paredown.models.onnx.constants import INTEGER_PRODUCTS, Constants
from paredown.models.onnx.edit import FUSED
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


@dataclass(frozen=True)
class LayerFacts:
    """One node with the constants that only serve it, `bytes` of them; `macs` is None where shapes are not fixed.

    `precision` is `int8` or `fp32` of nodes that could be either, else empty.
    """

    name: str
    op: str
    bytes: int
    parameters: int
    macs: int | None
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.op}{f', {self.precision}' if self.precision else ''})"


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


def model_facts(path: Path) -> ModelFacts:
    """The facts of an ONNX file, `.gz` or not. Raises InputError where it cannot be used."""
    model = open_checked(path)
    opset = max((item.version for item in model.opset_import if item.domain in STANDARD), default=0)
    return ModelFacts(sum(file.stat().st_size for file in files_of(path)), opset, tuple(layer_facts(model)))


def layer_facts(model: ModelProto) -> Iterator[LayerFacts]:
    """Every node that computes something from the input, in order, functions written out and the graphs inside of nodes
    too (of branches all are listed, whichever is taken). What only prepares constants is part of its reader."""
    whole = inliner.inline_local_functions(model) if model.functions else model
    yield from _Layers(*shapes_and_types(whole)).of(whole.graph, None)


def operator(node: NodeProto) -> str:
    """The operator's name, with its domain where that is not the standard's."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


@dataclass(frozen=True)
class _Layers:
    """The shapes and element types of a model's values, by which its nodes are described."""

    known: Mapping[str, Shape]
    types: Mapping[str, int]

    def of(self, graph: GraphProto, around: Constants | None) -> Iterator[LayerFacts]:
        constants = Constants(graph, around)
        for node in graph.node:
            if constants.is_constant(node):
                continue
            owned = constants.owned.get(node.output[0], ())
            yield LayerFacts(
                name=node.name or node.output[0],
                op=operator(node),
                bytes=sum(_bytes(one) for one in owned),
                parameters=sum(prod(one.dims) for one in owned if one.name not in constants.scales and _trained(one)),
                macs=self.macs(node, constants),
                precision=self.precision(node, constants),
            )
            for inner in inner_graphs(node):
                yield from self.of(inner, constants)

    def precision(self, node: NodeProto, constants: Constants) -> str:
        """A node computes in int8 where all that it reads was rounded, and what it gives is rounded again. Matrix
        products may give floats, as the last one does."""
        if node.op_type in INTEGER_OPS or node.op_type.startswith("QLinear"):
            return "int8"
        joins = node.op_type in JOINS and len(constants.computed(node)) > 1
        if node.op_type not in FLOAT_OPS and not (joins and self._joins_floats(node, constants)):
            return ""
        rounded = [constants.dequantized(value) for value in (constants.computed(node) if joins else node.input[:2])]
        return "int8" if all(rounded) and (node.op_type in FLOAT_PRODUCTS or _rounded(node, constants)) else "fp32"

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
