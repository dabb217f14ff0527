"""Int8 in an ONNX graph: which values are quantized when some layers are, and the QDQ nodes that say so.

Activations are unsigned 8 bit, one scale a value; weights are signed, symmetric, one scale an output channel: on x86
the only form that onnxruntime computes fast. A layer that is int8 has quantized inputs and a quantized output (after
its fused activation); what follows without weights (pooling, gates, reshapes) stays in int8 where its inputs are.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from paredown.models.onnx.edit import FUSED, WEIGHTED, consumers, copy_of, producers, set_weight, weights

PASSING = ("Reshape", "Flatten", "Identity", "MaxPool", "Squeeze")
FOLLOWING = ("GlobalAveragePool", "AveragePool", "Mul", "Sigmoid", "Concat")
UNIT_RANGE = ("Sigmoid", "HardSigmoid")

LEAST_STEP = np.float32(2**-12)
"""Of the layer's largest step: a channel without weights still needs one that its bias fits into."""

Range = tuple[float, float]
"""The lowest and highest value that an activation is meant to keep."""


def activation_scale(bounds: Range) -> tuple[np.float32, int]:
    """Scale and zero point of unsigned 8 bit over a range, which is widened to hold zero exactly."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return scale, int(np.clip(round(-low / float(scale)), 0, 255))


def range_of(scale: float, zero: int) -> Range:
    """The range whose `activation_scale` is exactly this float32 scale and zero point."""
    return -zero * float(scale), (255 - zero) * float(scale)


def weight_scales(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Per output channel, for symmetric signed integers of `bits` bits; weight is (out, ...)."""
    peak = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    steps = peak / np.float32(2 ** (bits - 1) - 1)
    return np.asarray(np.maximum(steps, np.maximum(steps.max() * LEAST_STEP, np.float32(1e-8))), np.float32)


def quantizable_nodes(model: ModelProto) -> list[str]:
    """The nodes whose precision can be chosen: Conv, Gemm and the Add of two computed values."""
    constant = set(weights(model))
    joins = {n.name for n in model.graph.node if n.op_type == "Add" and not constant & set(n.input)}
    return [n.name for n in model.graph.node if n.op_type in WEIGHTED or n.name in joins]


def quantized_values(model: ModelProto, int8: Collection[str]) -> dict[str, str]:
    """Every value that is quantized when the units in `int8` are, mapped to the value whose range it takes."""
    readers, constant = consumers(model), set(weights(model))
    returned = {value.name for value in model.graph.output}
    wanted = {v for n in model.graph.node if n.name in int8 for v in _data_inputs(n, constant)}
    found: dict[str, str] = {value.name: value.name for value in model.graph.input if value.name in wanted}
    outputs = {fused_output(n, readers) for n in model.graph.node if n.name in int8}
    for node in model.graph.node:
        data, value = _data_inputs(node, constant), node.output[0]
        if value in returned:
            continue
        if node.op_type in PASSING and data[0] in found:
            found[value] = found[data[0]]
        elif value in outputs or value in wanted or _follows(node, data, found, readers):
            found[value] = value
    return _with_sources(model, found, wanted, constant)


def _with_sources(
    model: ModelProto, found: dict[str, str], wanted: Collection[str], constant: Collection[str]
) -> dict[str, str]:
    """Reshaped inputs of int8 units take the range of what they reshape, even where that stays in float."""
    made = producers(model)
    for value in wanted:
        origin = value
        while origin in made and made[origin].op_type in PASSING:
            origin = _data_inputs(made[origin], constant)[0]
        found[value] = found.get(origin, origin)
    return found


def _follows(
    node: NodeProto, data: list[str], found: Mapping[str, str], readers: Mapping[str, list[NodeProto]]
) -> bool:
    computed = node.op_type in FOLLOWING and bool(data) and all(value in found for value in data)
    return computed and fused_output(node, readers) == node.output[0]


def fused_output(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> str:
    """The value after the activation that the runtime computes inside the node."""
    after = readers.get(node.output[0], [])
    return str(after[0].output[0] if len(after) == 1 and after[0].op_type in FUSED else node.output[0])


def _data_inputs(node: NodeProto, constant: Collection[str]) -> list[str]:
    return [value for value in node.input if value and value not in constant]


def quantize(model: ModelProto, int8: Collection[str], ranges: Mapping[str, Range], bits: int) -> ModelProto:
    """The model with the units in `int8` in QDQ form, `ranges` holding every value of `quantized_values`."""
    model = copy_of(model)
    values = quantized_values(model, int8)
    scales = {value: activation_scale(_range(origin, model, ranges)) for value, origin in values.items()}
    _quantize_weights(model, int8, scales, bits)
    nodes: list[NodeProto] = []
    for value in (item.name for item in model.graph.input):
        nodes += _pair(model, value, scales)
    for node in _redirected(model.graph.node, scales):
        nodes.append(node)
        nodes += _pair(model, node.output[0], scales)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _guard_lone_floats(model)
    return model


def _range(value: str, model: ModelProto, ranges: Mapping[str, Range]) -> Range:
    if value in ranges:
        return ranges[value]
    node = producers(model).get(value)
    if node is not None and node.op_type in UNIT_RANGE:
        return (0.0, 1.0)
    if node is not None and node.op_type == "Resize":  # rounded behind it, with the range of what it shrank
        return _range(node.input[0], model, ranges)
    raise KeyError(f"no range for the value '{value}'")


def _redirected(nodes: Iterable[NodeProto], scales: Mapping[str, object]) -> list[NodeProto]:
    """Copies of the nodes that read the dequantized form of every quantized value."""
    copies = []
    for node in nodes:
        fresh = NodeProto()
        fresh.CopyFrom(node)
        for index, value in enumerate(node.input):
            if value in scales:
                fresh.input[index] = f"{value}.dq"
        copies.append(fresh)
    return copies


def _pair(model: ModelProto, value: str, scales: Mapping[str, tuple[np.float32, int]]) -> list[NodeProto]:
    if value not in scales:
        return []
    scale, zero = scales[value]
    set_weight(model, f"{value}.scale", np.array(scale, np.float32))
    set_weight(model, f"{value}.zero", np.array(zero, np.uint8))
    params = [f"{value}.scale", f"{value}.zero"]
    return [
        helper.make_node("QuantizeLinear", [value, *params], [f"{value}.q"], name=f"{value}.q"),
        helper.make_node("DequantizeLinear", [f"{value}.q", *params], [f"{value}.dq"], name=f"{value}.dq"),
    ]


def _quantize_weights(
    model: ModelProto, int8: Collection[str], scales: Mapping[str, tuple[np.float32, int]], bits: int
) -> None:
    constants, fresh, gone = weights(model), [], set[str]()
    for node in model.graph.node:
        if node.name not in int8 or node.op_type not in WEIGHTED:
            continue
        name, source = node.input[1], scales[node.input[0]][0]
        weight = constants[name].astype(np.float32)
        steps, top = weight_scales(weight, bits), 2 ** (bits - 1) - 1
        shaped = steps.reshape(-1, *[1] * (weight.ndim - 1))
        _set_integers(model, name, np.clip(np.rint(weight / shaped), -top, top).astype(np.int8), steps)
        fresh.append(_dequantize(name))
        node.input[1], gone = f"{name}.dq", gone | {name}
        if len(node.input) > 2 and node.input[2]:
            bias, step = node.input[2], (steps * source).astype(np.float32)
            integers = np.clip(np.rint(constants[bias].astype(np.float32) / step), -(2**31), 2**31 - 1)
            _set_integers(model, bias, integers.astype(np.int32), step)
            fresh.append(_dequantize(bias))
            node.input[2], gone = f"{bias}.dq", gone | {bias}
    kept = [item for item in model.graph.initializer if item.name not in gone]
    nodes = [*fresh, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def _set_integers(model: ModelProto, name: str, integers: NDArray[np.generic], steps: NDArray[np.float32]) -> None:
    set_weight(model, f"{name}.q", integers)
    set_weight(model, f"{name}.scale", steps)
    set_weight(model, f"{name}.zero", np.zeros(len(steps), integers.dtype))


def _dequantize(name: str) -> NodeProto:
    inputs = [f"{name}.q", f"{name}.scale", f"{name}.zero"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], name=f"{name}.dq", axis=0)


def _guard_lone_floats(model: ModelProto) -> None:
    """Keep float layers between int8 ones in float.

    onnxruntime turns a lone float Conv or Gemm between DequantizeLinear and QuantizeLinear into a per-tensor int8
    one. A Max with the lowest float before the QuantizeLinear changes no value and hides the pattern from it.
    """
    made, readers = producers(model), consumers(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        output = fused_output(node, readers) if node.op_type in WEIGHTED else ""
        into = [reader for reader in readers.get(output, []) if reader.op_type == "QuantizeLinear"]
        if not into or node.input[1].endswith(".dq") or not _dequantized(made.get(node.input[0])):
            continue
        set_weight(model, "lowest", np.array(np.finfo(np.float32).min, np.float32))
        last = made[output]
        guarded = last.output[0]
        last.output[0] = f"{guarded}.raw"
        nodes.append(helper.make_node("Max", [f"{guarded}.raw", "lowest"], [guarded], name=f"{guarded}.guard"))
    del model.graph.node[:]
    model.graph.node.extend(_sorted(nodes))


def _dequantized(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _sorted(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes with every guard moved behind the activation that it guards."""
    order = {value: place for place, node in enumerate(nodes) for value in node.output}
    return sorted(nodes, key=lambda n: order[n.input[0]] + 0.5 if n.name.endswith(".guard") else order[n.output[0]])
