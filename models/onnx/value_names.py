"""Gives the values of an exported graph the names that the trace has for them.

Trace and exporter count their operators alike only as long as they take the same operators: batch norms that do not
fold, splits, transposed convolutions and whatever the exporter takes apart shift the numbers. So the two are run on the
same noise. A value keeps a name of the trace only where both compute the same under it; one that has another name gets
that of the traced value that it equals, and one that has no counterpart gets a name that the trace does not have.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch.fx import GraphModule

from paredown.models.network.watch import watch_values
from paredown.models.onnx.edit import PASSING, WEIGHTED, value_shapes
from paredown.models.onnx.run import values_in_parts

SAMPLED = 4096
"""Elements of a value that are compared; they are spread over all of it."""
TOLERANCE = 1e-3
"""Of the largest element: the two add up floats in another order."""


@dataclass(frozen=True)
class _Sample:
    """What a value is recognised by: its shape, and elements spread over it."""

    shape: tuple[int, ...]
    elements: NDArray[np.float64]

    @classmethod
    def of(cls, value: NDArray[np.generic]) -> "_Sample":
        flat = value.reshape(-1)
        places = np.linspace(0, max(flat.size - 1, 0), min(flat.size, SAMPLED)).astype(np.int64)
        return cls(value.shape, flat[places].astype(np.float64))

    def equals(self, other: "_Sample") -> bool:
        if self.elements.shape != other.elements.shape:
            return False
        scale = float(np.abs(np.nan_to_num(self.elements)).max(initial=0.0))
        return bool(np.allclose(self.elements, other.elements, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True))


def name_as_traced(model: ModelProto, graph: GraphModule) -> None:
    """Renames values of an exported graph in place, and the nodes with them; `graph` is the trace of the same network.

    Raises InputError where onnxruntime cannot run the graph.
    """
    images = noise_for(model)
    traced = _traced_samples(graph, images)
    exported = {name: _Sample.of(value) for name, value in values_in_parts(model, images.numpy())}
    passed = {node.output[0] for node in model.graph.node if node.op_type in PASSING}
    rename_values(model, _new_names(exported, traced, passed, {value.name for value in model.graph.output}))


def noise_for(model: ModelProto) -> torch.Tensor:
    """Images of noise, as many and as large as a graph takes; always the same."""
    shape = value_shapes(model)[model.graph.input[0].name]
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _traced_samples(graph: GraphModule, images: torch.Tensor) -> dict[str, _Sample]:
    """What the trace computes, in order; its parameters and constants are no values."""
    constants = {node.name for node in graph.graph.nodes if node.op == "get_attr"}
    samples: dict[str, _Sample] = {}

    def note(name: str, value: torch.Tensor) -> None:
        if name not in constants:
            samples[name] = _Sample.of(value.detach().numpy())

    with torch.no_grad():
        watch_values(graph, images, note)
    return samples


def _new_names(
    exported: Mapping[str, _Sample], traced: Mapping[str, _Sample], passed: Collection[str], fixed: Collection[str]
) -> Iterator[tuple[str, str]]:
    """(old, new) names of the exported values that are to be called otherwise.

    `fixed` ones never are. Those that are only `passed` on have the range of what they pass, and need no counterpart.
    """
    same = {name for name, sample in exported.items() if name in traced and sample.equals(traced[name])} | set(fixed)
    free = {name: sample for name, sample in traced.items() if name not in same}
    taken = {*same, *traced, *exported}
    for name, sample in exported.items():
        if name in same:
            continue
        found = None if name in passed else _counterpart(sample, free)
        if found is not None:
            del free[found]
        elif name in traced:
            found = next(one for i in range(len(taken) + 1) if (one := f"{name}.exported{i or ''}") not in taken)
            taken.add(found)
        if found is not None:
            yield name, found


def _counterpart(sample: _Sample, free: Mapping[str, _Sample]) -> str | None:
    """The first of these values that equals it, in the same shape."""
    return next((n for n, other in free.items() if other.shape == sample.shape and other.equals(sample)), None)


def rename_values(model: ModelProto, names: Iterable[tuple[str, str]]) -> None:
    """Renames values in place, from old to new, all at once; nodes are named anew."""
    fresh = dict(names)
    for node in model.graph.node:
        for side in (node.input, node.output):
            for index, value in enumerate(side):
                side[index] = fresh.get(value, value)
    for item in model.graph.value_info:
        item.name = fresh.get(item.name, item.name)
    name_nodes(model)


def name_nodes(model: ModelProto) -> None:
    """Names every Conv and Gemm by its torch module, every other node by the first value it computes; so is a Conv or
    Gemm whose weight is no module's own, or that of one before it."""
    named = set[str]()
    for node in model.graph.node:
        parameter = node.input[1] if node.op_type in WEIGHTED else ""
        layer = parameter.removesuffix(".weight") if parameter.endswith(".weight") else ""
        node.name = layer if layer and layer not in named else node.output[0]
        named.add(node.name)
