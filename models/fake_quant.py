"""Int8 imitated in torch: the same scales and rounding as the artifact, with gradients passed straight through."""

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from paredown.models.graph import attribute, operator
from paredown.models.qdq import Range, activation_scale

SAMPLED = 200_000
"""Elements of a value that its percentiles are taken from; more do not move them."""


class ActivationQuant(nn.Module):
    """Unsigned 8 bit, one scale; see `qdq.activation_scale`."""

    scale: Tensor
    zero: Tensor

    def __init__(self, bounds: Range) -> None:
        super().__init__()
        scale, zero = activation_scale(bounds)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("zero", torch.tensor(zero, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, 255)


class WeightQuant(nn.Module):
    """Signed symmetric integers, one scale an output channel, taken from the weight as it is now."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        peak = weight.detach().abs().flatten(1).amax(1)
        scale = (peak / self.top).clamp(min=1e-8)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -self.top, self.top)


def insert(graph: GraphModule, ranges: Mapping[str, Range], layers: Collection[str], bits: int) -> GraphModule:
    """A copy of a traced network that imitates int8.

    `ranges` holds every value that is rounded (the origins in `qdq.quantized_values`), `layers` the int8 layers whose
    weights are rounded.
    """
    fresh = copy.deepcopy(graph)
    for node in list(fresh.graph.nodes):
        if node.name in ranges:
            _behind(fresh, node, ActivationQuant(ranges[node.name]))
        if operator(node) in ("conv2d", "linear"):
            weight = node.args[1]
            if attribute(weight).rpartition(".")[0] in layers:
                _behind(fresh, weight, WeightQuant(bits))
    fresh.graph.lint()
    fresh.recompile()
    return fresh


def _behind(graph: GraphModule, node: Node, module: nn.Module) -> None:
    name = f"quant_{node.name}"
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(node):
        call = graph.graph.call_module(name, (node,))
    node.replace_all_uses_with(call)
    call.update_arg(0, node)


def observe(
    graph: GraphModule, batches: Iterable[Tensor], values: Collection[str], percentile: float = 99.99
) -> dict[str, Range]:
    """The range of each named value over calibration batches, its outliers beyond the percentile cut off.

    Percentiles are taken per batch and averaged: one odd image does not stretch the scale of all others.
    """
    lows: dict[str, list[float]] = {value: [] for value in values}
    highs: dict[str, list[float]] = {value: [] for value in values}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if n.name in lows:
                low, high = _bounds(result, percentile)
                lows[n.name].append(low)
                highs[n.name].append(high)
            return result

    with torch.no_grad():
        for batch in batches:
            Recorder(graph).run(batch)
    return {value: (float(np.mean(lows[value])), float(np.mean(highs[value]))) for value in values if lows[value]}


def _bounds(x: Tensor, percentile: float) -> Range:
    flat = x.detach().flatten()
    flat = flat[:: max(1, flat.numel() // SAMPLED)]
    rank = max(1, round(flat.numel() * (100 - percentile) / 100))
    return float(flat.kthvalue(rank).values), float(flat.kthvalue(flat.numel() - rank + 1).values)
