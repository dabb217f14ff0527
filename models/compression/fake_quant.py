"""Int8 imitated in torch: the same scales and rounding as the artifact, with gradients passed straight through."""

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from paredown.models.compression.scales import LEAST_STEP, Range, activation_scale
from paredown.models.network.nodes import PASSING, module_attribute, operator_name
from paredown.models.network.watch import watch_values

SAMPLED = 200_000
"""Elements of a value that its percentiles are taken from; more do not move them."""


class ActivationQuant(nn.Module):
    """Unsigned 8 bit, one scale; see `scales.activation_scale`."""

    scale: Tensor
    zero: Tensor

    def __init__(self, bounds: Range) -> None:
        super().__init__()
        scale, zero = activation_scale(bounds)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("zero", torch.tensor(zero, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, 255)


class QuantizedSilu(nn.Module):
    """SiLU as the exporter writes it, a product with a sigmoid that is rounded too."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = ActivationQuant((0.0, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * cast(Tensor, self.gate(torch.sigmoid(x)))


class WeightQuant(nn.Module):
    """Signed symmetric integers, one scale an output channel, taken from the weight as it is now."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = 2 ** (bits - 1) - 1

    def steps(self, weight: Tensor) -> Tensor:
        """The size of one integer step, per output channel (channels,)."""
        peak = weight.detach().abs().flatten(1).amax(1)
        steps: Tensor = peak / self.top
        return torch.maximum(steps, (steps.max() * float(LEAST_STEP)).clamp(min=1e-8))

    def forward(self, weight: Tensor) -> Tensor:
        scale = self.steps(weight)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -self.top, self.top)


class QuantizedBias(nn.Module):
    """Integers in steps of the input's scale times the weight's, as integer kernels add them to their sums.

    Left out, it is the largest difference to the artifact: small steps that later layers amplify.
    """

    scale: Tensor

    def __init__(self, scale: Tensor, weight: WeightQuant) -> None:
        super().__init__()
        self.register_buffer("scale", scale.clone())
        self.weight = weight

    def forward(self, bias: Tensor, weight: Tensor) -> Tensor:
        step = self.scale * self.weight.steps(weight)
        return bias + (torch.round(bias / step) * step - bias).detach()


def imitate_int8(graph: GraphModule, ranges: Mapping[str, Range], layers: Collection[str], bits: int) -> GraphModule:
    """A copy of a traced network that imitates int8, with weights of `bits`, and passes gradients through.

    `ranges` holds every value that is rounded (the origins in `qdq.quantized_values`), `layers` the int8 layers whose
    weights and biases are rounded.
    """
    fresh = copy.deepcopy(graph)
    for node in list(fresh.graph.nodes):
        if node.name in ranges:
            _insert_behind(fresh, node, ActivationQuant(ranges[node.name]))
        if operator_name(node) == "silu" and _input_scale(fresh, node.args[0]) is not None:
            _replace_call(fresh, node, QuantizedSilu())
        if operator_name(node) in ("conv2d", "linear") and module_attribute(node.args[1]).rpartition(".")[0] in layers:
            _round_parameters(fresh, node, bits)
    fresh.graph.lint()
    fresh.recompile()
    return fresh


def _round_parameters(graph: GraphModule, node: Node, bits: int) -> None:
    weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
    quant, scale = WeightQuant(bits), _input_scale(graph, node.args[0])
    assert isinstance(weight, Node)
    _insert_behind(graph, weight, quant)
    if isinstance(bias, Node) and scale is not None:
        name = f"quant_{bias.name}"
        graph.add_submodule(name, QuantizedBias(scale, quant))
        with graph.graph.inserting_before(node):
            node.update_arg(2, graph.graph.call_module(name, (bias, weight)))


def _input_scale(graph: GraphModule, value: object) -> Tensor | None:
    """The scale of a rounded value, also behind a reshape."""
    while isinstance(value, Node) and (value.op == "call_module" or operator_name(value) in PASSING):
        if value.op == "call_module":
            module = graph.get_submodule(str(value.target))
            return module.scale if isinstance(module, ActivationQuant) else None
        value = value.args[0]
    return None


def _replace_call(graph: GraphModule, node: Node, module: nn.Module) -> None:
    name = f"imitated_{node.name}"
    graph.add_submodule(name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1], {}


def _insert_behind(graph: GraphModule, node: Node, module: nn.Module) -> None:
    name = f"quant_{node.name}"
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(node):
        call = graph.graph.call_module(name, (node,))
    node.replace_all_uses_with(call)
    call.update_arg(0, node)


def observe_ranges(
    graph: GraphModule, batches: Iterable[Tensor], values: Collection[str], percentile: float = 99.99
) -> dict[str, Range]:
    """The range of each named value over calibration batches (N, 3, H, W), outliers beyond the percentile cut off.

    Percentiles are taken per batch and averaged: one odd image does not stretch the scale of all others.
    """
    lows: dict[str, list[float]] = {value: [] for value in values}
    highs: dict[str, list[float]] = {value: [] for value in values}

    def note(name: str, value: Tensor) -> None:
        low, high = _bounds(value, percentile)
        lows[name].append(low)
        highs[name].append(high)

    with torch.no_grad():
        for batch in batches:
            watch_values(graph, batch, note, lows)
    return {value: (float(np.mean(lows[value])), float(np.mean(highs[value]))) for value in values if lows[value]}


def _bounds(x: Tensor, percentile: float) -> Range:
    """Lowest and highest of a value's elements, without those beyond the percentile at either end."""
    flat = x.detach().flatten()
    flat = flat[:: max(1, flat.numel() // SAMPLED)]
    rank = max(1, round(flat.numel() * (100 - percentile) / 100))
    return float(flat.kthvalue(rank).values), float(flat.kthvalue(flat.numel() - rank + 1).values)
