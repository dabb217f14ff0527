"""Which values of an ONNX graph do not depend on its input, and which node each stored tensor serves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

RESHAPING = ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten")
INTEGER_PRODUCTS = ("ConvInteger", "MatMulInteger")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")
BOUNDED = ("Clip", "Pad", "Resize")
TRAINED_AT = {"QLinearConv": (0, 3, 8), "QGemm": (0, 3, 6)}
"""Places of data, weight and bias among the inputs of operators that also take scales."""


class Constants:
    """The constants of one graph; those of an inner graph include what it takes from the one around it.

    `tensors` are the stored ones by name, `values` all that does not depend on the input. `owned` has the tensors that
    serve each node, by the node's first output; `left` those that no node here reads.
    """

    def __init__(self, graph: GraphProto, around: "Constants | None" = None) -> None:
        self.nodes = list(graph.node)
        self.made = {value: node for node in self.nodes for value in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for value in node.input:
                self.readers.setdefault(value, []).append(node)
        self.tensors = {tensor.name: tensor for tensor in _stored(graph)} | (around.left if around else {})
        self.values: set[str] = set(self.tensors) | (around.values if around else set())
        for node in self.nodes:
            if self.is_constant(node):
                self.values.update(node.output)
        self.scales = {value for node in self.nodes for value in self._scales(node)}
        self.owned: dict[str, list[TensorProto]] = {}
        self.left: dict[str, TensorProto] = {}
        for name, tensor in self.tensors.items():
            reader = self._reader(name)
            if reader is None:
                self.left[name] = tensor
            else:
                self.owned.setdefault(reader.output[0], []).append(tensor)

    def is_constant(self, node: NodeProto) -> bool:
        """Whether it computes the same for every input; what holds graphs of its own may read more than it says."""
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return False
        return node.op_type == "Constant" or (
            bool(node.input) and all(value in self.values for value in node.input if value)
        )

    def computed(self, node: NodeProto) -> list[str]:
        """What it reads that depends on the input."""
        return [value for value in node.input if value and value not in self.values]

    def dequantized(self, value: str) -> bool:
        """Whether it comes from integers, perhaps through what reshapes it."""
        while value in self.made and self.made[value].op_type in RESHAPING:
            value = self.made[value].input[0]
        return value in self.made and self.made[value].op_type == "DequantizeLinear"

    def rescales(self, node: NodeProto) -> bool:
        """Whether it multiplies the sums of an integer product with their scale, or makes that scale."""
        if node.op_type != "Mul":
            return False
        if any(self._summed(value) for value in node.input):
            return True
        return any(
            reader.op_type == "Mul" and any(self._summed(value) for value in reader.input)
            for reader in self.readers.get(node.output[0], ())
        )

    def _summed(self, value: str) -> bool:
        """Whether it is what an integer product gives, as floats."""
        while value in self.made and self.made[value].op_type in ("Cast", "Add"):
            inputs = self.made[value].input
            value = next((one for one in inputs if one not in self.values), inputs[0])
        return value in self.made and self.made[value].op_type in INTEGER_PRODUCTS

    def _scales(self, node: NodeProto) -> Iterator[str]:
        """Inputs that say how something is rounded, cut or resized, and are no parameters."""
        if node.op_type in ROUNDING + BOUNDED:
            yield from node.input[1:]
        elif node.op_type.startswith("QLinear") or node.op_type in TRAINED_AT:
            kept = TRAINED_AT.get(node.op_type, (0, 3))
            yield from (value for place, value in enumerate(node.input) if place not in kept)
        elif node.op_type in INTEGER_PRODUCTS:
            yield from node.input[2:]
        elif self.rescales(node):
            yield from (value for value in node.input if value in self.values)

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


def _stored(graph: GraphProto) -> Iterator[TensorProto]:
    """The tensors that a graph holds itself: initializers, dense or sparse, and what Constant nodes hold."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute:
            yield _constant(node)


def _constant(node: NodeProto) -> TensorProto:
    """What a Constant node holds, under the name of its value; text counts as nothing."""
    (attribute, *_), tensor = node.attribute, TensorProto()
    held: Mapping[str, tuple[Sequence[Any], type]] = {
        "value_float": ([attribute.f], np.float32),
        "value_floats": (attribute.floats, np.float32),
        "value_int": ([attribute.i], np.int64),
        "value_ints": (attribute.ints, np.int64),
    }
    if attribute.name in held:
        numbers, kind = held[attribute.name]
        tensor.CopyFrom(numpy_helper.from_array(np.array(numbers, kind)))
    elif attribute.HasField("t"):
        tensor.CopyFrom(attribute.t)
    elif attribute.HasField("sparse_tensor"):
        tensor.CopyFrom(attribute.sparse_tensor.values)
    else:
        tensor.data_type, tensor.dims[:] = TensorProto.INT64, [0]
    tensor.name = node.output[0]
    return tensor
