"""Int8 as integer layers with their scales behind them, at opset 17: the form that DeepSparse computes fast.

A layer between DequantizeLinear and QuantizeLinear becomes a ConvInteger or MatMulInteger that reads the quantized
value, its int32 bias, a Cast and one multiplication by the scale of every output channel. It computes the same numbers
up to the rounding of floats. All else (sums, pools, gates) keeps its QDQ form, in which DeepSparse takes it.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, defs, helper

from paredown.models.errors import InputError
from paredown.models.onnx.edit import WEIGHTED, constant_arrays, copy_of_model, producers_of_values, set_weight

OPSET, IR = 17, 8

INTEGER = ("ConvInteger", "MatMulInteger")
"""The integer forms of `onnx.edit.WEIGHTED`."""

REDUCING = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare")
"""Operators whose axes are an attribute up to opset 17 and an input after it."""


def conv_integer(model: ModelProto) -> ModelProto:
    """A model of a newer opset, in float or QDQ form, in that form; every layer keeps its name.

    Raises InputError where it needs what opset 17 does not have.
    """
    model = copy_of_model(model)
    _remove_guards(model)
    made, constants = producers_of_values(model), constant_arrays(model)
    nodes = [part for node in model.graph.node for part in _integer_layer(model, node, made, constants)]
    _replace_nodes(model, nodes)
    _set_opset(model)
    _remove_unread(model)
    return onnx.shape_inference.infer_shapes(model)


def _remove_guards(model: ModelProto) -> None:
    """Takes out what keeps onnxruntime from quantizing float layers (see `qdq.insert_qdq`)."""
    made = producers_of_values(model)
    for node in model.graph.node:
        if node.name.endswith(".guard"):
            made[node.input[0]].output[0] = node.output[0]
    _replace_nodes(model, [node for node in model.graph.node if not node.name.endswith(".guard")])


def _integer_layer(
    model: ModelProto, node: NodeProto, made: Mapping[str, NodeProto], constants: Mapping[str, NDArray[np.generic]]
) -> Iterator[NodeProto]:
    """The nodes of an int8 layer, the last of which gives the layer's value; any other node as it is."""
    sources = [made.get(value) for value in node.input[:2]] if node.op_type in WEIGHTED else []
    read = [source for source in sources if source is not None and source.op_type == "DequantizeLinear"]
    if len(read) < 2:
        yield node
        return
    (quantized, step, zero), (weight, steps, _) = read[0].input, read[1].input
    name, value = node.name, f"{node.name}.integer"
    channels = (1, -1, 1, 1) if node.op_type == "Conv" else (1, -1)
    # DeepSparse aborts the process where a layer states no zero point of its weights.
    set_weight(model, f"{weight}.zero", np.array(0, np.int8))
    yield _integer_product(model, node, [quantized, weight, zero, f"{weight}.zero"], constants)
    if len(node.input) > 2 and node.input[2]:
        bias = made[node.input[2]].input[0]
        set_weight(model, bias, constants[bias].reshape(channels))
        yield helper.make_node("Add", [value, bias], [f"{name}.biased"], name=f"{name}.biased")
        value = f"{name}.biased"
    yield helper.make_node("Cast", [value], [f"{name}.cast"], name=f"{name}.cast", to=TensorProto.FLOAT)
    set_weight(model, f"{name}.steps", np.multiply(constants[steps], constants[step]).reshape(channels))
    yield helper.make_node("Mul", [f"{name}.cast", f"{name}.steps"], [node.output[0]], name=f"{name}.scaled")


def _integer_product(
    model: ModelProto, node: NodeProto, inputs: list[str], constants: Mapping[str, NDArray[np.generic]]
) -> NodeProto:
    """The product of a layer's quantized value and weight (the first two `inputs`), named as the layer."""
    value, weight, *zeros = inputs
    outputs = [f"{node.name}.integer"]
    if node.op_type == "Conv":
        layer = helper.make_node("ConvInteger", inputs, outputs, name=node.name)
        layer.attribute.extend(node.attribute)
        return layer
    matrix = f"{weight}.t" if _transposed(node) else weight
    set_weight(model, matrix, constants[weight].T if _transposed(node) else constants[weight])
    return helper.make_node("MatMulInteger", [value, matrix, *zeros], outputs, name=node.name)


def _transposed(node: NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _remove_unread(model: ModelProto) -> None:
    """Takes out the DequantizeLinear nodes that integer layers replace, and the constants that nothing reads."""
    read = {value for node in model.graph.node for value in node.input}
    keeps = [node for node in model.graph.node if node.op_type != "DequantizeLinear" or node.output[0] in read]
    _replace_nodes(model, keeps)
    read = {value for node in keeps for value in node.input}
    constants = [item for item in model.graph.initializer if item.name in read]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(constants)


def _set_opset(model: ModelProto) -> None:
    newest = model.opset_import[0].version
    constants = constant_arrays(model)
    for node in model.graph.node:
        if node.op_type in REDUCING and len(node.input) > 1:
            axes = constants[node.input.pop(1)]
            node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
        _drop_newer(node, newest)
    model.opset_import[0].version, model.ir_version = OPSET, IR


def _drop_newer(node: NodeProto, newest: int) -> None:
    """Takes out the attributes that opset 17 does not know where they say what it does in any case."""
    try:
        known = defs.get_schema(node.op_type, OPSET, node.domain).attributes
    except defs.SchemaError as error:
        raise InputError(f"the operator {node.op_type} ({node.name}) needs a newer opset than {OPSET}") from error
    newer = defs.get_schema(node.op_type, newest, node.domain).attributes
    for attribute in [one for one in node.attribute if one.name not in known]:
        value = helper.get_attribute_value(attribute)
        usual = helper.get_attribute_value(newer[attribute.name].default_value) if attribute.name in newer else None
        if value != usual and not (attribute.name == "dilations" and set(value) == {1}):
            raise InputError(f"{node.op_type} ({node.name}) with {attribute.name} needs a newer opset than {OPSET}")
        node.attribute.remove(attribute)


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
