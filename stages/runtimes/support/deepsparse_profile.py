"""Maps what DeepSparse's analysis reports back to the nodes of the file.

The engine names a piece of work by the values that it computes, several where it computes several layers in one piece:
`pyramid_5` may give `conv2d_5,conv2d_6,add_2`. Fused activations are not named at all.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paredown.stages.runtimes.support.ort_profile import FileNodes, names_of

Piece = tuple[str, str, float]
"""The kind with a running number, the values computed (`<none>` where it is none of the file's), mean ms."""

LAYERS = ("Conv", "ConvInteger", "Gemm", "MatMulInteger")


def node_times(model: Path, blocks: Sequence[Sequence[Piece]]) -> dict[str, float]:
    """Median ms over the blocks per node's name; what belongs to no node of the file goes under `+<kind>`."""
    names, work = names_of(model), multiply_adds(model)
    times = [_block_times(block, names, work) for block in blocks]
    every = sorted({name for block in times for name in block})
    return {name: float(np.median([block.get(name, 0.0) for block in times])) for name in every}


def _block_times(block: Sequence[Piece], names: FileNodes, work: Mapping[str, float]) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for kind, values, ms in block:
        for name, share in time_shares(values.split(","), names, work).items():
            times[name or "+" + re.sub(r"[_ ]\d+$", "", kind)] += share * ms
    return times


def time_shares(values: Sequence[str], names: FileNodes, work: Mapping[str, float]) -> dict[str, float]:
    """Who a piece's time belongs to: its layers by their multiply-adds, else its first node, else nobody (`""`)."""
    nodes = [names.producers[value].name for value in values if value in names.producers]
    layers = {name: work[name] for name in nodes if name in work}
    whole = sum(layers.values())
    return {name: part / whole for name, part in layers.items()} if layers else {nodes[0] if nodes else "": 1.0}


def multiply_adds(model: Path) -> dict[str, float]:
    """Of every layer in the file."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    weights = {item.name: math.prod(item.dims) for item in graph.initializer}
    pixels = {value.name: _pixels(value) for value in [*graph.value_info, *graph.output]}
    layers = [node for node in graph.node if node.op_type in LAYERS]
    return {node.name: float(weights.get(node.input[1], 1) * pixels.get(node.output[0], 1)) for node in layers}


def _pixels(value: Any) -> int:
    return math.prod(size.dim_value for size in value.type.tensor_type.shape.dim[2:])
