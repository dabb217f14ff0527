"""What layers in the forms that a plan gives them take: bytes of weights, of files, and of live activations."""

from collections.abc import Mapping, Sequence

from paredown.models.network.layers import Layer
from paredown.stages.analysis.prepared_model import LayerForm
from paredown.stages.products.cost_profile import Shares
from paredown.stages.products.evidence import MIB

LayerForms = Sequence[tuple[Layer, LayerForm]]
"""The layers of a plan's network, in order of depth, with their forms."""


def layer_pixels(layer: Layer, form: LayerForm) -> tuple[int, int]:
    """Height x width of what a layer reads and of what it computes."""
    return form.pixels or (layer.pixels_in, layer.pixels_out)


INT8_CHANNEL = 17
"""Bytes per output channel beside int8 weights: their scale and zero point, the bias, its scale and zero point."""


def weight_bytes(layer: Layer, form: LayerForm) -> int:
    """Bytes of a layer's parameters in the artifact."""
    if layer.op == "add":
        return 0
    groups = form.channels_in if layer.depthwise else layer.groups
    count = form.channels_in * form.channels_out * layer.kernel // groups
    return count + INT8_CHANNEL * form.channels_out if form.bits == 8 else 4 * (count + form.channels_out)


def stored_bytes(layer: Layer, form: LayerForm, shares: Shares) -> float:
    """Bytes of a layer's parameters in the container that the artifact is in."""
    return weight_bytes(layer, form) * shares.get(layer.name, {}).get(form.kernel, 1.0)


def size_mib(forms: LayerForms, shares: Shares) -> float:
    """MiB of all parameters; without any `shares` as they are loaded."""
    return sum(stored_bytes(layer, form, shares) for layer, form in forms) / MIB


def output_bytes(layer: Layer, form: LayerForm) -> int:
    """Bytes of the value that a layer computes."""
    return layer_pixels(layer, form)[1] * form.channels_out * (1 if form.bits == 8 else 4)


def live_mib(forms: LayerForms, lifetimes: Mapping[str, tuple[int, int]]) -> dict[int, float]:
    """MiB of live activations at every schedule step; `lifetimes` are the first and last step of every layer's
    output."""
    live = dict.fromkeys(range(len(forms)), 0.0)
    for layer, form in forms:
        first, last = lifetimes[layer.name]
        for step in range(first, last + 1):
            live[step] += output_bytes(layer, form) / MIB
    return live
