"""What is known of any ONNX classifier without running it: bytes, parameters, multiply-adds, operators, precision."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, shape_inference

from paredown.models.onnx_file import files_of, open_checked
from paredown.models.onnx_graph import consumers, copy_of, producers, shapes
from paredown.models.qdq import FUSED

FLOAT_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
INTEGER_OPS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm", "FusedConv")
WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Place of the weight among a node's inputs, where it is not the second."""
JOINS = ("Add", "Mul", "Concat")
"""Of two or more computed values."""
RESHAPING = ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")
QUANTIZED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
KINDS = {"": "ai.onnx", "ai.onnx": "ai.onnx"}


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
class Facts:
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
        found = [layer.macs for layer in self.layers]
        return None if None in found else sum(count for count in found if count is not None)

    @cached_property
    def ops(self) -> Mapping[str, int]:
        """Operator to how often it is there, by name."""
        return dict(sorted(Counter(layer.op for layer in self.layers).items()))

    @cached_property
    def unquantized(self) -> tuple[LayerFacts, ...]:
        """The nodes that could compute in int8 and compute in float."""
        return tuple(layer for layer in self.layers if layer.precision == "fp32")


def facts_of(path: Path) -> Facts:
    """The facts of an ONNX file, `.gz` or not. Raises InputError where it cannot be used."""
    model = open_checked(path)
    opset = max((item.version for item in model.opset_import if item.domain in KINDS), default=0)
    return Facts(sum(file.stat().st_size for file in files_of(path)), opset, tuple(layers_of(model)))


def layers_of(model: ModelProto) -> Iterator[LayerFacts]:
    """Every node that computes something from the input, in order; a constant belongs to the node that reads it."""
    known, graph = _shaped(model), _Constants(model)
    for node in model.graph.node:
        if node.op_type == "Constant" or graph.is_constant(node):
            continue
        owned = graph.owned.get(_name(node), ())
        yield LayerFacts(
            name=_name(node),
            op=operator(node),
            bytes=sum(_bytes(one) for one in owned),
            parameters=sum(prod(one.dims) for one in owned if one.name not in graph.scales and _trained(one)),
            macs=_macs(node, known, graph),
            precision=_precision(node, graph),
        )


def operator(node: NodeProto) -> str:
    """The operator's name, with its domain where that is not the standard's."""
    return node.op_type if node.domain in KINDS else f"{node.domain}::{node.op_type}"


class _Constants:
    """Which values do not depend on the input, and which node each stored tensor serves."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.made = producers(model)
        self.tensors = {item.name: item for item in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                tensor = TensorProto()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
                self.tensors[tensor.name] = tensor
        self.values = set(self.tensors)
        for node in graph.node:
            if self.is_constant(node):
                self.values.update(node.output)
        self.scales = {v for n in graph.node for v in _scale_inputs(n)}
        self.owned: dict[str, list[TensorProto]] = {}
        self.readers = consumers(model)
        for tensor in self.tensors.values():
            reader = self._reader(tensor.name)
            if reader is not None:
                self.owned.setdefault(_name(reader), []).append(tensor)

    def is_constant(self, node: NodeProto) -> bool:
        """Whether it computes the same for every input."""
        return node.op_type == "Constant" or (
            bool(node.input) and all(value in self.values for value in node.input if value)
        )

    def _reader(self, value: str) -> NodeProto | None:
        """The first node that reads a constant and computes something from the input."""
        seen, waiting = {value}, [value]
        while waiting:
            for node in self.readers.get(waiting.pop(0), ()):
                if not self.is_constant(node):
                    return node
                fresh = [name for name in node.output if name not in seen]
                seen.update(fresh)
                waiting += fresh
        return None

    def dequantized(self, value: str) -> bool:
        """Whether a value comes from integers, a weight perhaps through what reshapes it."""
        while value in self.values and value in self.made and self.made[value].op_type in RESHAPING:
            value = self.made[value].input[0]
        return value in self.made and self.made[value].op_type == "DequantizeLinear"

    def quantized(self, node: NodeProto) -> bool:
        """Whether all that reads a node's value rounds it, perhaps behind an activation; the model's output counts."""
        after = self.readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type in FUSED:
            after = self.readers.get(after[0].output[0], [])
        return all(reader.op_type == "QuantizeLinear" for reader in after)

    def source(self, value: str) -> TensorProto | None:
        """The stored tensor behind a constant: behind what dequantizes or reshapes it."""
        while value not in self.tensors and value in self.made and self.made[value].input:
            value = self.made[value].input[0]
        return self.tensors.get(value)


def _scale_inputs(node: NodeProto) -> list[str]:
    """Inputs that say how a tensor is rounded, and are no parameters."""
    if node.op_type in ROUNDING:
        return list(node.input[1:])
    if node.op_type.startswith("QLinear") or node.op_type == "QGemm":
        return [value for place, value in enumerate(node.input) if place not in (0, WEIGHT_AT.get(node.op_type, 3), 8)]
    return list(node.input[2:]) if node.op_type.endswith("Integer") else []


def _precision(node: NodeProto, graph: _Constants) -> str:
    """A node computes in int8 where all that it reads was rounded, and what it gives is rounded again. Matrix products
    may give floats, as the last one does."""
    if node.op_type in INTEGER_OPS or node.op_type.startswith("QLinear"):
        return "int8"
    computed = [value for value in node.input if value and value not in graph.values]
    joins = node.op_type in JOINS and len(computed) > 1
    if node.op_type not in FLOAT_OPS and not joins:
        return ""
    rounded = [graph.dequantized(value) for value in (computed if joins else node.input[:2])]
    return "int8" if all(rounded) and ("M" in node.op_type or graph.quantized(node)) else "fp32"


def _macs(node: NodeProto, known: Mapping[str, tuple[int, ...]], graph: _Constants) -> int | None:
    if node.op_type not in FLOAT_OPS + INTEGER_OPS:
        return 0
    weight = graph.source(node.input[WEIGHT_AT.get(node.op_type, 1)])
    taken, given = known.get(node.input[0], ()), known.get(node.output[0], ())
    if not (given and all(given) and taken and all(taken)):
        return None
    if node.op_type == "ConvTranspose":
        return prod(taken) * prod(weight.dims[1:]) if weight else None
    if "Conv" in node.op_type:
        return prod(given) * prod(weight.dims[1:]) if weight else None
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(given) * taken[-2 if turned else -1]


def _shaped(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all values that have a fixed one, with an open batch taken as 1."""
    fixed = copy_of(model)
    constant = {item.name for item in fixed.graph.initializer}
    for value in fixed.graph.input:
        if value.name not in constant:
            _fix_batch(value)
    try:
        return shapes(shape_inference.infer_shapes(fixed))
    except (shape_inference.InferenceError, ValueError):
        return {}


def _fix_batch(value: ValueInfoProto) -> None:
    sizes = value.type.tensor_type.shape.dim
    if sizes and not sizes[0].HasField("dim_value"):
        sizes[0].dim_value = 1


def _bytes(tensor: TensorProto) -> int:
    four = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4)
    size: int = prod(tensor.dims)
    return (size + 1) // 2 if four else size * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _trained(tensor: TensorProto) -> bool:
    """Floats and quantized integers, and int32 as biases are stored; int64 holds shapes and indices."""
    return tensor.data_type in (*QUANTIZED, *FLOATS, TensorProto.INT32)


def _name(node: NodeProto) -> str:
    """Its name, or that of the value it gives where it has none."""
    return node.name or node.output[0]
