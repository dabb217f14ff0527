"""Int8 in an ONNX graph: which values are quantized when some layers are, and the QDQ nodes that say so.

Activations are unsigned 8 bit, one scale a value; weights are signed, symmetric, one scale an output channel: on x86
the only form that onnxruntime computes fast. A layer that is int8 has quantized inputs and a quantized output (after
its fused activation); what follows without weights (pooling, gates, reshapes) stays in int8 where its inputs are.
"""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from paredown.models.compression.scales import Range, activation_scale, range_of_scale, weight_scales
from paredown.models.onnx.edit import (
    FUSED,
    PASSING,
    WEIGHTED,
    constant_arrays,
    consumers_of_values,
    copy_of_model,
    has_own_parameters,
    producers_of_values,
    set_weight,
)
from paredown.models.onnx.shapes import shapes_and_types

FOLLOWING = ("GlobalAveragePool", "AveragePool", "Mul", "Sigmoid", "Concat")
UNIT_RANGE = ("Sigmoid", "HardSigmoid")
FINEST = 255
"""Steps of a mean in one of what it averages, divided by its pixels: onnxruntime takes less than 256."""


def quantizable_nodes(model: ModelProto) -> list[str]:
    """The nodes whose precision can be chosen: Conv, Gemm and the Add of two computed values."""
    constant = set(constant_arrays(model))
    joins = {n.name for n in model.graph.node if n.op_type == "Add" and not constant & set(n.input)}
    return [n.name for n in model.graph.node if n.op_type in WEIGHTED or n.name in joins]


def calibrated_nodes(model: ModelProto, ranges: Collection[str]) -> list[str]:
    """The quantizable nodes for which the values in `ranges` are enough: they read and compute nothing else.

    What the exporter computes otherwise than the trace has no value there that could be calibrated: a layer beside it
    stays in float.
    """
    made, readers, constant = producers_of_values(model), consumers_of_values(model), set(constant_arrays(model))
    returned = {value.name for value in model.graph.output}
    quantizable = set(quantizable_nodes(model))

    def known(value: str) -> bool:
        return value in returned or _has_range(_origin(value, made, constant), made, ranges)

    return [
        node.name
        for node in model.graph.node
        if node.name in quantizable
        and (node.op_type not in WEIGHTED or has_own_parameters(node, constant, readers))
        and all(known(value) for value in (*_data_inputs(node, constant), fused_output_value(node, readers)))
    ]


def _has_range(value: str, made: Mapping[str, NodeProto], ranges: Collection[str]) -> bool:
    return value in ranges or (value in made and made[value].op_type in UNIT_RANGE)


def _origin(value: str, made: Mapping[str, NodeProto], constant: Collection[str]) -> str:
    """The value whose range a value takes: what was reshaped to it."""
    while value in made and made[value].op_type in PASSING and (data := _data_inputs(made[value], constant)):
        value = data[0]
    return value


def quantized_values(model: ModelProto, int8: Collection[str], ranges: Collection[str] | None = None) -> dict[str, str]:
    """Every value that is quantized when the nodes in `int8` are, mapped to the value whose range it takes.

    With `ranges`, what has no range there and is read by no int8 node stays in float.
    """
    readers, constant = consumers_of_values(model), set(constant_arrays(model))
    made = producers_of_values(model)
    returned = {value.name for value in model.graph.output}
    wanted = {v for n in model.graph.node if n.name in int8 for v in _data_inputs(n, constant)}
    origins: dict[str, str] = {value.name: value.name for value in model.graph.input if value.name in wanted}
    own = wanted | {fused_output_value(n, readers) for n in model.graph.node if n.name in int8}

    def known(value: str) -> bool:
        return ranges is None or _has_range(value, made, ranges)

    for node in model.graph.node:
        data, value = _data_inputs(node, constant), node.output[0]
        if value in returned:
            continue
        if node.op_type in PASSING and data and data[0] in origins:
            origins[value] = origins[data[0]]
        elif value in own or (known(value) and _follows(node, data, origins, readers)):
            origins[value] = value
    return _with_sources(made, origins, wanted, constant)


def _with_sources(
    made: Mapping[str, NodeProto], origins: dict[str, str], wanted: Collection[str], constant: Collection[str]
) -> dict[str, str]:
    """Reshaped inputs of int8 nodes take the range of what they reshape, even where that stays in float."""
    for value in wanted:
        origin = _origin(value, made, constant)
        origins[value] = origins.get(origin, origin)
    return origins


def _follows(
    node: NodeProto, data: list[str], quantized: Collection[str], readers: Mapping[str, list[NodeProto]]
) -> bool:
    """Whether a node without weights stays in int8: all that it reads is quantized, and no activation follows."""
    computed = node.op_type in FOLLOWING and bool(data) and all(value in quantized for value in data)
    return computed and fused_output_value(node, readers) == node.output[0]


def fused_output_value(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> str:
    """The value after the activation that the runtime computes inside the node."""
    after = readers.get(node.output[0], [])
    return str(after[0].output[0] if len(after) == 1 and after[0].op_type in FUSED else node.output[0])


def _data_inputs(node: NodeProto, constant: Collection[str]) -> list[str]:
    return [value for value in node.input if value and value not in constant]


def insert_qdq(model: ModelProto, int8: Collection[str], ranges: Mapping[str, Range], bits: int) -> ModelProto:
    """The model with the nodes in `int8` in QDQ form, weights with `bits`; `ranges` has what these read and compute.
    Raises KeyError where one is missing."""
    model = copy_of_model(model)
    values = quantized_values(model, int8, ranges)
    scales = {value: activation_scale(_range(origin, model, ranges)) for value, origin in values.items()}
    scales |= _coarser_means(model, values, scales)
    _quantize_weights(model, int8, scales, bits)
    nodes: list[NodeProto] = []
    for value in (item.name for item in model.graph.input):
        nodes += _pair(model, value, scales)
    for node in _redirected(model.graph.node, scales):
        nodes.append(node)
        nodes += [part for value in node.output for part in _pair(model, value, scales)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _guard_lone_floats(model)
    return model


def file_ranges(model: ModelProto, int8: Collection[str], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges with which `insert_qdq` rounds: those given, but for means whose steps it makes coarser."""
    values = quantized_values(model, int8, ranges)
    scales = {value: activation_scale(_range(origin, model, ranges)) for value, origin in values.items()}
    coarser = _coarser_means(model, values, scales)
    return {**ranges, **{values[value]: range_of_scale(float(step), zero) for value, (step, zero) in coarser.items()}}


def _coarser_means(
    model: ModelProto, values: Mapping[str, str], scales: Mapping[str, tuple[np.float32, int]]
) -> dict[str, tuple[np.float32, int]]:
    """Scales that are to be coarser, of means in steps so much finer than those of what they average that onnxruntime
    refuses the file: as where both were calibrated in different networks, or in one that is hardly trained."""
    pools = [n for n in model.graph.node if n.op_type == "GlobalAveragePool" and n.output[0] in scales]
    fine = [n for n in pools if n.input[0] in scales and scales[n.input[0]][0] > FINEST * scales[n.output[0]][0]]
    shapes, coarser = shapes_and_types(model)[0] if fine else {}, dict[str, tuple[np.float32, int]]()
    for node in fine:
        step, zero = scales[node.output[0]]
        least = np.float32(scales[node.input[0]][0] / (FINEST * math.prod(shapes.get(node.input[0], ())[2:])))
        coarser |= {value: (max(step, least), zero) for value, origin in values.items() if origin == node.output[0]}
    return coarser


def _range(value: str, model: ModelProto, ranges: Mapping[str, Range]) -> Range:
    if value in ranges:
        return ranges[value]
    node = producers_of_values(model).get(value)
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
    constants, fresh, gone = constant_arrays(model), [], set[str]()
    for node in model.graph.node:
        if node.name not in int8 or node.op_type not in WEIGHTED:
            continue
        name, source = node.input[1], scales[node.input[0]][0]
        weight = constants[name].astype(np.float32)
        steps, top = weight_scales(weight, bits), 2 ** (bits - 1) - 1
        # Not divided by the steps: torch multiplies, and between two integers it rounds otherwise then.
        inverse = (np.float32(1) / steps).reshape(-1, *[1] * (weight.ndim - 1))
        _set_integers(model, name, np.clip(np.rint(weight * inverse), -top, top).astype(np.int8), steps)
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
    made, readers = producers_of_values(model), consumers_of_values(model)
    guards: dict[str, NodeProto] = {}
    for node in model.graph.node:
        output = fused_output_value(node, readers) if node.op_type in WEIGHTED else ""
        into = [reader for reader in readers.get(output, []) if reader.op_type == "QuantizeLinear"]
        if not into or node.input[1].endswith(".dq") or not _dequantized(made.get(node.input[0])):
            continue
        set_weight(model, "lowest", np.array(np.finfo(np.float32).min, np.float32))
        last = made[output]
        guarded, raw = last.output[0], f"{last.output[0]}.raw"
        last.output[0] = raw
        guards[raw] = helper.make_node("Max", [raw, "lowest"], [guarded], name=f"{guarded}.guard")
    nodes = [one for node in model.graph.node for one in (node, *(guards[v] for v in node.output if v in guards))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _dequantized(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"
