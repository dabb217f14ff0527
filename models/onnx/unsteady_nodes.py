"""Nodes by which an ONNX file answers otherwise each time, or by the other images of a batch."""

from collections.abc import Iterator, Mapping

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from paredown.models.onnx.walk import all_graphs, all_nodes
from paredown.models.printable import printable

CHANCE = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
TRAINING = "in training mode"
NAMED = 3
"""Nodes that a complaint lists."""
NAME_LENGTH = 60


def unsteady_nodes(model: ModelProto) -> tuple[str, ...]:
    """`'/bn1' (BatchNormalization in training mode)` of every such node, in order."""
    stored = dict(_constants(model))
    kinds = ((node, _kind(node, stored)) for node in all_nodes(model))
    return tuple(f"{printable(node.name or node.output[0], NAME_LENGTH)!r} ({kind})" for node, kind in kinds if kind)


def unsteady_complaint(model: ModelProto) -> str:
    """One phrase that names the nodes; empty where there is none."""
    nodes = unsteady_nodes(model)
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    hint = "; export it after model.eval()" if any(node.endswith(f"{TRAINING})") for node in nodes) else ""
    return f"its answers change from call to call, by {', '.join(nodes[:NAMED])}{more}{hint}" if nodes else ""


def _kind(node: NodeProto, stored: Mapping[str, TensorProto]) -> str:
    """What is unsteady about a node; empty where nothing is."""
    if node.op_type in CHANCE:
        return node.op_type
    return f"{node.op_type} {TRAINING}" if _trains(node, stored) else ""


def _trains(node: NodeProto, stored: Mapping[str, TensorProto]) -> bool:
    if node.op_type == "BatchNormalization":
        return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    if node.op_type != "Dropout" or len(node.input) < 3:
        return False
    mode = stored.get(node.input[2])
    return mode is not None and bool(numpy_helper.to_array(mode).any())


def _constants(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """All stored tensors by the name of their value."""
    for graph in all_graphs(model):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in all_nodes(model):
        if node.op_type == "Constant":
            yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t"))
