"""Which nodes of a graph with rounded values onnxruntime computes with integers, by the rules of its optimiser.

A DequantizeLinear is no proof of it: where a pattern does not fit, onnxruntime computes in float what was rounded,
which takes longer than the model that never was. The rules are those of onnxruntime 1.31; the tests hold them beside
the graphs that it makes.
"""

import math
import platform
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from paredown.models.onnx.constants import Constants

PRODUCTS = ("Gemm", "MatMul")
"""They may give floats of integers."""
PASSED = ("Identity", "Dropout", "MaxPool", "Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Operators past which onnxruntime moves the rounding; Flatten is none of them."""
BOUNDS = ("Relu", "Clip")
"""Activations that go where the rounding cuts at the same bounds."""
EIGHT_BITS: dict[int, tuple[int, int]] = {TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127)}
"""Type to its smallest and largest number."""

SIGNED = "signed activations that more than one node reads"
NOT_ROUNDED_BEFORE = "not all that it reads is rounded"
NOT_ROUNDED_BEHIND = "what it gives is not rounded, or read without being rounded too"
ACTIVATION = "an activation that the rounding behind it does not replace"
NO_KERNEL = "there are no integer kernels of it"
FACTORS = "alpha or beta is not 1 beside a bias"
INPUT_SCALES = "weights with one scale per input"
FLOAT_BIAS = "a bias that is not rounded"


def signed_kernels() -> bool:
    """Whether onnxruntime has kernels for signed activations on this CPU. Elsewhere it turns them into unsigned ones,
    where only one node reads them."""
    return platform.machine().lower() in ("aarch64", "arm64")


@dataclass(frozen=True)
class IntegerRules:
    """The rules for one graph; `returned` are its outputs, `signed` as `signed_kernels` says."""

    constants: Constants
    returned: frozenset[str]
    signed: bool

    def fault(self, node: NodeProto) -> str | None:
        """None where a Conv, a product or a join is computed with integers, else why it is not; empty where nobody
        meant it to be."""
        if not any(self._rounded(value) for value in node.input):
            return ""
        if node.op_type == "ConvTranspose":
            return NO_KERNEL
        weighted = node.op_type == "Conv" or node.op_type in PRODUCTS
        if weighted and self._constant(node.input[1]):
            faults = [self._read(node.input[0], node.op_type == "Conv"), self._weight(node)]
        else:
            faults = [self._read(value) for value in node.input if value]
        return next((fault for fault in (*faults, self._factors(node), self._given(node)) if fault is not None), None)

    def _rounded(self, value: str) -> bool:
        source = self._source(value)
        return source is not None and source.op_type == "DequantizeLinear"

    def _constant(self, value: str) -> bool:
        return value in self.constants.values

    def _source(self, value: str, padded: bool = False) -> NodeProto | None:
        """The node that gave a value, before what onnxruntime moves the rounding past: a Conv takes zeros around in."""
        node = self.constants.made.get(value)
        while node is not None and (node.op_type in PASSED or (padded and self._pads_zeros(node))):
            node = self.constants.made.get(node.input[0])
        return node

    def _read(self, value: str, padded: bool = False) -> str | None:
        """What is wrong with a value that a node reads."""
        source = self._source(value, padded)
        if source is None or source.op_type != "DequantizeLinear":
            return NOT_ROUNDED_BEFORE
        return self._kind_fault(source, source.input[0])

    def _kind_fault(self, node: NodeProto, integers: str) -> str | None:
        """What is wrong with the type of activations; `integers` is their value in integers."""
        kind = self._kind(node)
        if kind not in EIGHT_BITS:
            return f"{_words(kind)} activations"
        maker = self.constants.made.get(integers)
        unsigned = maker is not None and maker.op_type == "QuantizeLinear" and self._readers(integers) == 1
        return SIGNED if kind == TensorProto.INT8 and not (self.signed or unsigned) else None

    def _readers(self, integers: str) -> int:
        """How many inputs read a rounded value, in integers or as floats again."""
        readers = [one for value in self._same_integers(integers) for one in self.constants.readers.get(value, ())]
        return sum(self._uses(one.output[0]) if one.op_type == "DequantizeLinear" else 1 for one in readers)

    def _same_integers(self, integers: str) -> list[str]:
        """A rounded value and its twins: onnxruntime makes one of nodes that round the same value alike."""
        maker = self.constants.made.get(integers)
        if maker is None or maker.op_type != "QuantizeLinear":
            return [integers]
        beside = self.constants.readers.get(maker.input[0], [maker])
        return [one.output[0] for one in beside if _round_alike(one, maker)]

    def _uses(self, value: str) -> int:
        """How many inputs and outputs read a value, also behind what the rounding is moved past."""
        count, waiting = 0, [value]
        while waiting:
            value = waiting.pop()
            count += value in self.returned
            for reader in self.constants.readers.get(value, ()):
                waiting += [reader.output[0]] if reader.op_type in PASSED else []
                count += reader.op_type not in PASSED
        return count

    def _weight(self, node: NodeProto) -> str | None:
        source = self._source(node.input[1])
        if source is None or source.op_type != "DequantizeLinear":
            # A lone float layer between rounded values is rounded by onnxruntime itself, but for MatMul.
            return None if node.op_type != "MatMul" and self._rounding_behind(node.output[0]) else ""
        if (kind := self._kind(source)) not in EIGHT_BITS:
            return f"{_words(kind)} weights"
        scales = self._array(source.input[1]) if len(source.input) > 1 else None
        many = node.op_type == "Gemm" and scales is not None and scales.size > 1
        return INPUT_SCALES if many and _attribute(source, "axis", 1) != 1 - _attribute(node, "transB", 0) else None

    def _factors(self, node: NodeProto) -> str | None:
        factors = [one.f for one in node.attribute if one.name in ("alpha", "beta")] if _has_bias(node) else []
        return None if all(factor == 1 for factor in factors) else FACTORS

    def _given(self, node: NodeProto) -> str | None:
        """What is wrong with how a node's value is rounded."""
        value, bias = self._with_bias(node)
        rounding, bounds = self._rounding_behind(value), self._bounds_behind(value)
        if rounding is not None:
            wrong = not all(self._replaces(rounding, one) for one in bounds)
            return ACTIVATION if wrong else self._kind_fault(rounding, rounding.output[0])
        read_rounded = any(one.op_type == "QuantizeLinear" for one in self.constants.readers.get(value, ()))
        if node.op_type in PRODUCTS and not read_rounded:
            return FLOAT_BIAS if bias else None
        return NOT_ROUNDED_BEHIND

    def _with_bias(self, node: NodeProto) -> tuple[str, bool]:
        """The value of a node, of a MatMul after the constant that is added; and whether there is such a float bias."""
        readers = self.constants.readers.get(node.output[0], [])
        added = readers[0] if node.op_type == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add" else None
        if added and any(self._constant(value) and not self._rounded(value) for value in added.input):
            return added.output[0], True
        return node.output[0], _has_bias(node) and not self._rounded(node.input[2])

    def _bounds_behind(self, value: str) -> list[NodeProto]:
        """The activations that come first of all that reads a value."""
        found = list[NodeProto]()
        while (reader := self._only_reader(value)) is not None and reader.op_type in BOUNDS:
            found.append(reader)
            value = reader.output[0]
        return found

    def _rounding_behind(self, value: str) -> NodeProto | None:
        """The only QuantizeLinear that reads a value, behind its activations and what the rounding is moved past."""
        for activation in self._bounds_behind(value):
            value = activation.output[0]
        reader = self._only_reader(value)
        while reader is not None and reader.op_type in PASSED:
            reader = self._only_reader(reader.output[0])
        return reader if reader is not None and reader.op_type == "QuantizeLinear" else None

    def _only_reader(self, value: str) -> NodeProto | None:
        readers = self.constants.readers.get(value, [])
        alone = bool(readers) and all(one is readers[0] or _round_alike(one, readers[0]) for one in readers)
        return readers[0] if alone and value not in self.returned else None

    def _replaces(self, rounding: NodeProto, activation: NodeProto) -> bool:
        """Whether the rounding cuts at the activation's bounds, or within."""
        step, middle = self._number(rounding, 1), self._number(rounding, 2, 0.0)
        low, high = self._bounds(activation)
        if not step or middle is None or low is None or high is None:
            return False
        least, most = EIGHT_BITS.get(self._kind(rounding), (0, 0))
        return round_to(low, step) + middle <= least and round_to(high, step) + middle >= most

    def _bounds(self, activation: NodeProto) -> tuple[float | None, float | None]:
        """The least and most that an activation gives; None where that is computed."""
        if activation.op_type == "Relu":
            return 0.0, math.inf
        written = {one.name: one.f for one in activation.attribute}
        return (
            self._number(activation, 1, written.get("min", -math.inf)),
            self._number(activation, 2, written.get("max", math.inf)),
        )

    def _number(self, node: NodeProto, place: int, default: float | None = None) -> float | None:
        """The constant number that a node takes there; None where it is computed, or several."""
        if place >= len(node.input) or not node.input[place]:
            return default
        held = self._array(node.input[place])
        return None if held is None or held.size != 1 else float(np.ravel(held)[0])

    def _kind(self, node: NodeProto) -> int:
        """The integer type of a QuantizeLinear or a DequantizeLinear."""
        if len(node.input) > 2 and node.input[2] in self.constants.tensors:
            return int(self.constants.tensors[node.input[2]].data_type)
        if node.op_type == "QuantizeLinear":
            return _attribute(node, "output_dtype", 0) or TensorProto.UINT8
        if node.input[0] in self.constants.tensors:
            return int(self.constants.tensors[node.input[0]].data_type)
        maker = self.constants.made.get(node.input[0])
        return self._kind(maker) if maker is not None and maker.op_type == "QuantizeLinear" else TensorProto.UINT8

    def _pads_zeros(self, node: NodeProto) -> bool:
        mode = next((one.s for one in node.attribute if one.name == "mode"), b"constant")
        value = self._array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        return node.op_type == "Pad" and mode == b"constant" and value is not None and not bool(np.any(value))

    def _array(self, value: str) -> NDArray[np.generic] | None:
        tensor = self.constants.tensors.get(value)
        return None if tensor is None else numpy_helper.to_array(tensor)


def round_to(value: float, step: float) -> float:
    """In whole steps."""
    return value if math.isinf(value) else float(np.rint(np.float32(value) / np.float32(step)))


def _round_alike(one: NodeProto, other: NodeProto) -> bool:
    return one.op_type == other.op_type == "QuantizeLinear" and list(one.input) == list(other.input)


def _has_bias(node: NodeProto) -> bool:
    """Of a Gemm."""
    return node.op_type == "Gemm" and len(node.input) > 2 and bool(node.input[2])


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(one.i) for one in node.attribute if one.name == name), default)


def _words(kind: int) -> str:
    """`16-bit` and the like."""
    name = str(TensorProto.DataType.Name(kind))
    four = kind in (TensorProto.INT4, TensorProto.UINT4)
    return f"{4 if four else 8 * int(helper.tensor_dtype_to_np_dtype(kind).itemsize)}-bit{' float' * ('FLOAT' in name)}"
