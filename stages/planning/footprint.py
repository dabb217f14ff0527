"""What a plan makes of every layer, and what that takes: bytes of weights, of files, and of live activations."""

from collections.abc import Sequence

from paredown.models.network.trace import Layer
from paredown.stages.analysis.dataflow import lifetimes
from paredown.stages.analysis.plan_network import network_of_plan
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.products.cost_profile import Shares
from paredown.stages.products.evidence import MIB
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.base import Transform


def form_of(prepared: PreparedModel, transforms: Sequence[Transform], layer: Layer, choice: Choice) -> LayerForm:
    """The layer's form under a plan, all transforms applied in order."""
    form = LayerForm(layer.channels_in, layer.channels_out)
    for transform in transforms:
        form = transform.form(prepared, layer, form, choice)
    return form


def pixels(layer: Layer, form: LayerForm) -> tuple[int, int]:
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


def size_mib(
    prepared: PreparedModel, transforms: Sequence[Transform], choice: Choice, shares: Shares | None = None
) -> float:
    """MiB of all parameters under a plan; without `shares` as they are loaded."""
    prepared = network_of_plan(prepared, choice)
    forms = ((layer, form_of(prepared, transforms, layer, choice)) for layer in prepared.network.layers)
    return sum(stored_bytes(layer, form, shares or {}) for layer, form in forms) / MIB


def output_bytes(layer: Layer, form: LayerForm) -> int:
    """Bytes of the value that a layer computes."""
    return pixels(layer, form)[1] * form.channels_out * (1 if form.bits == 8 else 4)


def live_mib(prepared: PreparedModel, transforms: Sequence[Transform], choice: Choice) -> dict[int, float]:
    """MiB of live activations at every schedule step."""
    prepared = network_of_plan(prepared, choice)
    ends = lifetimes(prepared)
    live = dict.fromkeys(range(len(prepared.network.layers)), 0.0)
    for layer in prepared.network.layers:
        held = output_bytes(layer, form_of(prepared, transforms, layer, choice)) / MIB
        for step in range(ends[layer.name][0], ends[layer.name][1] + 1):
            live[step] += held
    return live
