"""`narrow`: fewer channels, by groups of layers that share them, in widths that the runtime computes fast."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from onnx import ModelProto
from pydantic import Field
from torch import Tensor, nn
from torch.fx import GraphModule

from paredown.models.compression.channel_compensation import compensated_weight
from paredown.models.compression.channel_groups import remove_channels, zero_channels
from paredown.models.compression.narrow_onnx import groups_of_layer, narrow_onnx
from paredown.models.network.layers import ChannelGroup, Layer
from paredown.models.network.trace import channel_source
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.base import OTHERWISE, LayerNumbers, Transform

PREFIX = "narrow:"
SMALL = 64
"""Widths under this may be any multiple of 8: the next multiple of 16 would often be the whole layer."""


class Narrow(Transform):
    """Keeps the most important channels of every group, and lets them take over what the others did."""

    FEATURE: ClassVar[str] = "narrow"
    CHANGES: ClassVar[Mapping[str, int]] = {"narrower": 10, "wider": 11}

    levels: tuple[float, ...] = Field(
        (0.875, 0.75, 0.625, 0.5, 0.375, 0.25), description="fractions of a group's channels that may stay"
    )
    round_to: int | None = Field(
        None, ge=1, description="widths are multiples of this; left out: what the runtime likes"
    )

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        offers = ((group, self.widths(prepared, group)) for group in prepared.groups)
        return tuple(
            Site(PREFIX + group.name, tuple(Candidate(str(width)) for width in widths))
            for group, widths in offers
            if len(widths) > 1
        )

    def widths(self, prepared: PreparedModel, group: ChannelGroup) -> tuple[int, ...]:
        """The whole width, then the narrower ones, widest first."""
        multiple = self.round_to or (
            min(8, prepared.width_multiple) if group.width < SMALL else prepared.width_multiple
        )
        rounded = {max(multiple, round(group.width * level / multiple) * multiple) for level in self.levels}
        return (group.width, *sorted((width for width in rounded if width < group.width), reverse=True))

    def coverage(self, prepared: PreparedModel) -> str:
        """The groups, the layers whose channels they are, and why other groups stay whole."""
        kinds = Counter(prepared.refused_groups.values())
        whole = ", ".join(f"{count} {reason}" for reason, count in kinds.most_common())
        groups = [group for group in prepared.groups if len(self.widths(prepared, group)) > 1]
        made = sum(len(group.outputs) for group in groups)
        every = sum(layer.op != "add" for layer in prepared.network.layers) + len(prepared.network.fixed)
        found = f"{len(groups)} channel group{'s' * (len(groups) != 1)}, {made} of {every} layers" if groups else "none"
        return found + (f"; groups that stay whole: {whole}" if whole else "")

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        names = dict.fromkeys(g.name for g in _sides(prepared, layer) if g and len(self.widths(prepared, g)) > 1)
        return tuple(PREFIX + name for name in names)

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        inner, outer = _sides(prepared, layer)
        return replace(
            form,
            channels_in=kept_width(inner, choice) if inner else form.channels_in,
            channels_out=kept_width(outer, choice) if outer else form.channels_out,
        )

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        levels = (0.75, 0.5, 0.25)
        return tuple({site.name: _nearest(site, level) for site in self.sites(prepared)} for level in levels)

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        for group in prepared.groups:
            gone = prepared.channel_ranking[group.name][kept_width(group, choice) :]
            if gone:
                zero_channels(graph, group, gone)
        compensate(prepared, choice, graph)
        return graph

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        kept = {group.name: channels_that_stay(prepared, group, choice) for group in prepared.groups}

        def weigh(name: str, group: ChannelGroup, weight: np.ndarray) -> np.ndarray:
            return _compensated(prepared, name, group, choice, torch.tensor(weight)).numpy()

        return narrow_onnx(model, prepared.network, prepared.groups, kept, weigh)

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        module = copy.deepcopy(module)
        compensate(prepared, choice, module)
        return remove_channels(module, prepared.network.shape, kept_by_layer(prepared, choice))

    def kept_channels(
        self, prepared: PreparedModel, group: ChannelGroup, choice: Choice, channels: Sequence[int]
    ) -> list[int]:
        stay = set(channels_that_stay(prepared, group, choice))
        return [channel for channel in channels if channel in stay]

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        if not (before.isdecimal() and after.isdecimal()):
            return OTHERWISE
        return "wider" if int(after) > int(before) else "narrower"

    @classmethod
    def describe(cls, unchanged: str, picked: str) -> LayerNumbers:
        return LayerNumbers(width=int(unchanged), kept=int(picked))


def compensate(prepared: PreparedModel, choice: Choice, module: nn.Module) -> None:
    """Lets the layers that read a narrowed group do without the channels that go, in place, their shapes unchanged."""
    for group in prepared.groups:
        for name in group.inputs if kept_width(group, choice) < group.width else ():
            weight = module.get_parameter(f"{name}.weight")
            with torch.no_grad():
                weight.copy_(_compensated(prepared, name, group, choice, weight))


def _compensated(prepared: PreparedModel, layer: str, group: ChannelGroup, choice: Choice, weight: Tensor) -> Tensor:
    stay = channels_that_stay(prepared, group, choice)
    if layer not in prepared.moments or len(stay) == group.width:
        return weight
    return compensated_weight(weight, stay, prepared.moments[layer])


def kept_by_layer(prepared: PreparedModel, choice: Choice) -> dict[str, list[int]]:
    """The channels that stay, of every group that is narrowed, for each dense layer that makes them.

    For each, not for one: what joined them may have been a block that is replaced now.
    """
    narrowed = [group for group in prepared.groups if kept_width(group, choice) < group.width]
    dense = {layer.name for layer in prepared.network.layers if not layer.depthwise}
    return {n: channels_that_stay(prepared, group, choice) for group in narrowed for n in group.outputs if n in dense}


def channels_that_stay(prepared: PreparedModel, group: ChannelGroup, choice: Choice) -> list[int]:
    return sorted(prepared.channel_ranking[group.name][: kept_width(group, choice)])


def kept_width(group: ChannelGroup, choice: Choice) -> int:
    return int(choice.get(PREFIX + group.name, group.width))


@remembered_per_object
def _sides(prepared: PreparedModel, layer: Layer) -> tuple[ChannelGroup | None, ChannelGroup | None]:
    """The groups of the channels that a layer reads and makes."""
    if layer.op == "add":
        name = channel_source(prepared.network, layer.inputs[0])
        return (next((group for group in prepared.groups if name in group.outputs), None),) * 2
    return groups_of_layer(prepared.groups, layer)


def _nearest(site: Site, level: float) -> str:
    whole = int(site.candidates[0].name)
    return min((c.name for c in site.candidates), key=lambda name: abs(int(name) - level * whole))


PLUGIN = Narrow
