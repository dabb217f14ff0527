"""Reads, edits and writes the ONNX graph of a network. Nothing here needs torch."""

import gzip
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from paredown.models.errors import InputError
from paredown.models.onnx.checked_file import parse_model, read_content
from paredown.models.onnx.wire import RefusedError

LEVEL = 6
"""Of gzip: 9 takes three times as long for 1 % less."""
WEIGHTED = ("Conv", "Gemm")
FUSED = ("Relu", "Clip")
"""Activations that runtimes compute inside the layer before them."""
PASSING = ("Reshape", "Flatten", "Identity", "MaxPool", "Squeeze")
"""Operators whose output has the range of their input."""


def save_onnx(model: ModelProto, path: Path) -> None:
    """Writes a file; one whose name ends with `.gz` is compressed, the same model to the same bytes."""
    written = model.SerializeToString(deterministic=True)
    path.write_bytes(gzip.compress(written, LEVEL, mtime=0) if path.suffix == ".gz" else written)


def load_onnx(path: Path) -> ModelProto:
    """Reads what `save_onnx` wrote; of other files no external data. Raises InputError for what is no ONNX file."""
    try:
        return parse_model(read_content(path))
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error


def copy_of_model(model: ModelProto) -> ModelProto:
    fresh = ModelProto()
    fresh.CopyFrom(model)
    return fresh


def constant_arrays(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Initializers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def layer_weight(model: ModelProto, layer: str) -> NDArray[np.generic]:
    """The float weight of one Conv or Gemm."""
    name = next(node.input[1] for node in model.graph.node if node.name == layer and node.op_type in WEIGHTED)
    return numpy_helper.to_array(next(item for item in model.graph.initializer if item.name == name))


def set_weight(model: ModelProto, name: str, value: NDArray[np.generic]) -> None:
    """Replace an initializer, or add it."""
    tensor = numpy_helper.from_array(np.array(value, order="C"), name)
    for item in model.graph.initializer:
        if item.name == name:
            item.CopyFrom(tensor)
            return
    model.graph.initializer.append(tensor)


def weighted_nodes(model: ModelProto) -> Iterator[tuple[str, NodeProto]]:
    """(layer name, node) of every Conv and Gemm in order."""
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            yield node.name, node


def layers_with_own_weights(model: ModelProto) -> frozenset[str]:
    """The Convs and Gemms whose weight is stored under their name, and their bias too, for nobody else: only these can
    be changed."""
    stored, readers = {item.name for item in model.graph.initializer}, consumers_of_values(model)
    return frozenset(
        name
        for name, node in weighted_nodes(model)
        if node.input[1] == f"{name}.weight" and has_own_parameters(node, stored, readers)
    )


def has_own_parameters(node: NodeProto, stored: Collection[str], readers: Mapping[str, Sequence[NodeProto]]) -> bool:
    """Whether all that a node reads beside its first input is stored, and no other node reads it."""
    return all(value in stored and len(readers[value]) == 1 for value in node.input[1:] if value)


def stored_weights(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Every Conv's and Gemm's weight as the file has it: floats, or integers in QDQ form."""
    constants = constant_arrays(model)
    named = {name: node.input[1].removesuffix(".dq") for name, node in weighted_nodes(model)}
    stored = {name: constants.get(f"{one}.q", constants.get(one)) for name, one in named.items()}
    return {name: value for name, value in stored.items() if value is not None}


def zero_shares(model: ModelProto) -> dict[str, float]:
    """Of every Conv and Gemm the share of its weights that are zero, in float or as integers in QDQ form."""
    return {name: float((value == 0).mean()) for name, value in stored_weights(model).items()}


def producers_of_values(model: ModelProto) -> dict[str, NodeProto]:
    """Value to the node that computes it."""
    return {value: node for node in model.graph.node for value in node.output}


def consumers_of_values(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each value, in order."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    return readers


def value_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Static shapes of the values that have one."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
