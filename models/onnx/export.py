"""Exports a folded network to ONNX, once; `onnx.edit` changes it from there."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

from paredown.models.errors import InputError
from paredown.models.loading.code_places import fault_of
from paredown.models.network.shape import Shape
from paredown.models.network.trace import functional_graph, plain_modes, trace_module
from paredown.models.onnx.edit import constant_arrays, set_weight, value_shapes
from paredown.models.onnx.value_names import name_as_traced, name_nodes

OPSET = 20


def export_onnx(module: nn.Module, shape: Shape, batch: int = 1, graph: GraphModule | None = None) -> ModelProto:
    """A folded module as ONNX with a static batch; input `x`, output `logits`.

    Every Conv and Gemm node is named by its torch module, every other node by the value it computes. What has the name
    of a value in the module's trace is that value: `graph` is the trace where there is one already.
    Raises InputError where the exporter cannot express the module, or torch.export cannot trace it.
    """
    graph = graph or functional_graph(trace_module(module, shape))  # first: it says where the user's code is at fault
    example = torch.zeros(batch, *shape)
    try:
        with _quiet(), plain_modes():
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
        raise InputError(f"the model cannot be exported to ONNX: {_reason(error)}") from error
    assert program is not None
    model = program.model_proto
    _pool_globally(model)
    _free_channels(model)
    name_nodes(model)
    _strip(model)
    model = onnx.shape_inference.infer_shapes(model)
    name_as_traced(model, graph)
    return model


def _reason(error: BaseException) -> str:
    """What the exporter stumbled over: it wraps that in advice, and in colours for terminals."""
    while error.__cause__ is not None:
        error = error.__cause__
    return fault_of(error)


def _pool_globally(model: ModelProto) -> None:
    """Spatial means as GlobalAveragePool, which runtimes quantize; ReduceMean they leave in float."""
    constants, ranks = constant_arrays(model), {name: len(shape) for name, shape in value_shapes(model).items()}
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
    constants = constant_arrays(model)
    for node in model.graph.node:
        target = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and len(target) == 2 and all(int(size) > 0 for size in target):
            set_weight(model, node.input[1], np.array([target[0], -1], target.dtype))


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


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and warns about its own workings; a person can do nothing about it."""
    nowhere = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
