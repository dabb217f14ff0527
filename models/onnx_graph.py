"""The network as an ONNX file: exported once, then edited as a graph."""

import contextlib
import gzip
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from torch import nn

from paredown.models.graph import Shape
from paredown.models.onnx_file import content, parsed
from paredown.models.onnx_wire import RefusedError
from paredown.models.spec import InputError

OPSET = 20
LEVEL = 6
"""Of gzip: 9 takes three times as long for 1 % less."""
WEIGHTED = ("Conv", "Gemm")


def export(module: nn.Module, shape: Shape, batch: int = 1) -> ModelProto:
    """A folded module as ONNX with a static batch; input `x`, output `logits`.

    Every Conv and Gemm node is named by its torch module, every other node by the value it computes.
    Raises InputError where the exporter cannot express the module.
    """
    example = torch.zeros(batch, *shape)
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                input_names=["x"],
                output_names=["logits"],
            )
    except Exception as error:
        raise InputError(f"the model cannot be exported to ONNX: {str(error).strip().splitlines()[0][:200]}") from error
    assert program is not None
    model = program.model_proto
    _pool_globally(model)
    _free_channels(model)
    _name_nodes(model)
    _strip(model)
    return onnx.shape_inference.infer_shapes(model)


def save(model: ModelProto, path: Path) -> None:
    """Writes a file; one whose name ends with `.gz` is compressed, the same model to the same bytes."""
    written = model.SerializeToString(deterministic=True)
    path.write_bytes(gzip.compress(written, LEVEL, mtime=0) if path.suffix == ".gz" else written)


def load(path: Path) -> ModelProto:
    """Reads what `save` wrote; of other files no external data. Raises InputError for what is no ONNX file."""
    try:
        return parsed(content(path))
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error


def copy_of(model: ModelProto) -> ModelProto:
    fresh = ModelProto()
    fresh.CopyFrom(model)
    return fresh


def weights(model: ModelProto) -> dict[str, NDArray[np.generic]]:
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


def stored_weights(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Every Conv's and Gemm's weight as the file has it: floats, or integers in QDQ form."""
    constants = weights(model)
    named = {name: node.input[1].removesuffix(".dq") for name, node in weighted_nodes(model)}
    found = {name: constants.get(f"{one}.q", constants.get(one)) for name, one in named.items()}
    return {name: value for name, value in found.items() if value is not None}


def zero_shares(model: ModelProto) -> dict[str, float]:
    """Of every Conv and Gemm the share of its weights that are zero, in float or as integers in QDQ form."""
    return {name: float((value == 0).mean()) for name, value in stored_weights(model).items()}


def producers(model: ModelProto) -> dict[str, NodeProto]:
    return {value: node for node in model.graph.node for value in node.output}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each value, in order."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for value in node.input:
            found.setdefault(value, []).append(node)
    return found


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Static shapes of the values that have one."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}


def _pool_globally(model: ModelProto) -> None:
    """Spatial means as GlobalAveragePool, which runtimes quantize; ReduceMean they leave in float."""
    constants, ranks = weights(model), {name: len(shape) for name, shape in shapes(model).items()}
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or ranks.get(node.input[0]) != 4:
            continue
        axes = sorted(int(a) % 4 for a in np.ravel(constants.get(node.input[1], np.array([]))))
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        if axes == [2, 3] and keep == 1:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def _free_channels(model: ModelProto) -> None:
    """Flattening without a fixed channel count, so that layers before it can be narrowed in the graph."""
    constants = weights(model)
    for node in model.graph.node:
        target = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and len(target) == 2 and all(int(size) > 0 for size in target):
            set_weight(model, node.input[1], np.array([target[0], -1], target.dtype))


def _name_nodes(model: ModelProto) -> None:
    for node in model.graph.node:
        parameter = node.input[1] if node.op_type in WEIGHTED else ""
        node.name = parameter.removesuffix(".weight") if parameter.endswith(".weight") else node.output[0]


def _strip(model: ModelProto) -> None:
    """Leave out what differs between runs and machines: stack traces, docs, unused constants, shapes by name."""
    used = {value for node in model.graph.node for value in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:], model.graph.value_info[:], model.metadata_props[:], model.functions[:]
    model.graph.initializer.extend(kept)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for item in [*model.graph.initializer, *model.graph.input, *model.graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    model.producer_name, model.producer_version, model.graph.name = "paredown", "", "paredown"
    keep = [item for item in model.opset_import if item.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(keep)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and warns about its own workings; a person can do nothing about it."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
