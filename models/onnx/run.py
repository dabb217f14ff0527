"""Runs an ONNX graph as it stands and hands over chosen values: to compare it with the network that it came from."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from paredown.models.errors import InputError, first_line
from paredown.models.onnx.edit import copy_of_model, value_shapes

Array = NDArray[np.generic]

AT_ONCE = 2**26
"""Elements that are held at a time: large networks have more values than fit into memory."""


def run_onnx(model: ModelProto, images: Array, values: Sequence[str] = ()) -> dict[str, Array]:
    """The named values, by default the outputs, for images of the model's own batch (N, C, H, W), without any
    optimisation.

    Raises InputError where onnxruntime cannot run the graph.
    """
    wanted = list(values) or [value.name for value in model.graph.output]
    shown = {value.name for value in model.graph.output}
    more = copy_of_model(model)
    more.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in shown)
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(more.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found: Sequence[Array] = session.run(wanted, {model.graph.input[0].name: images})
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise InputError(f"onnxruntime cannot run the exported network: {first_line(error)}") from error
    return dict(zip(wanted, found, strict=True))


def values_in_parts(model: ModelProto, images: Array) -> Iterator[tuple[str, Array]]:
    """(name, value) of everything that the nodes compute, in order; the network is run anew for every part of it that
    fits into `AT_ONCE`."""
    sizes = {name: int(np.prod(shape)) for name, shape in value_shapes(model).items()}
    part: list[str] = []
    held = 0
    for name in (value for node in model.graph.node for value in node.output if value):
        if part and held + sizes.get(name, 0) > AT_ONCE:
            yield from run_onnx(model, images, part).items()
            part, held = [], 0
        part, held = [*part, name], held + sizes.get(name, 0)
    yield from run_onnx(model, images, part).items() if part else ()
