"""`resize`: a smaller input for the whole network; the image is shrunk by the artifact itself."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from onnx import ModelProto
from pydantic import Field
from torch import nn
from torch.fx import GraphModule

from paredown.models.compression.resolution import (
    computes_alike,
    layer_pixels,
    shrink_before,
    shrink_onnx,
    shrink_trace,
)
from paredown.models.network.layers import Layer
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.base import OTHERWISE, Transform

SITE = "resize:input"


class Resize(Transform):
    """Chooses the side of the images that the network computes on. The artifact's input stays as it was."""

    FEATURE: ClassVar[str] = "resize"
    ORDER: ClassVar[int] = 1
    CHANGES: ClassVar[Mapping[str, int]] = {"smaller input": 40, "larger input": 41}

    levels: tuple[float, ...] = Field((0.875, 0.75, 0.625), description="fractions of the input's side")
    round_to: int = Field(8, ge=1, description="sides are multiples of this, in pixels")

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        sides = self.sides(prepared)
        return (Site(SITE, tuple(Candidate(str(side)) for side in sides)),) if len(sides) > 1 else ()

    def sides(self, prepared: PreparedModel) -> tuple[int, ...]:
        """The whole side in pixels, then the smaller ones that the network takes, largest first."""
        whole = prepared.network.shape[1]
        rounded = {max(1, round(whole * level / self.round_to)) * self.round_to for level in self.levels}
        smaller = sorted((side for side in rounded if side < whole), reverse=True)
        return (whole, *(side for side in smaller if _taken(prepared, side)))

    def coverage(self, prepared: PreparedModel) -> str:
        """The sides of the input that the network takes."""
        whole, *smaller = self.sides(prepared)
        sides = ", ".join(map(str, smaller)) or "none: it computes otherwise at other sizes"
        return f"input of {whole} px to {sides}" if smaller else sides

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        plain = LayerForm(layer.channels_in, layer.channels_out)
        resized = ({SITE: str(side)} for side in self.sides(prepared))
        return (SITE,) if any(self.form(prepared, layer, plain, choice) != plain for choice in resized) else ()

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        side = chosen_side(prepared, choice)
        if side is None:
            return form
        pixels = layer_pixels(prepared.network, side)[layer.name]
        return form if pixels == (layer.pixels_in, layer.pixels_out) else replace(form, pixels=pixels)

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        """The smallest side alone: between it and the whole, times are straight lines over pixels."""
        return tuple({site.name: site.candidates[-1].name} for site in self.sites(prepared))

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        side = chosen_side(prepared, choice)
        return graph if side is None else shrink_trace(graph, side)

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        side = chosen_side(prepared, choice)
        return model if side is None else shrink_onnx(model, side)

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        side = chosen_side(prepared, choice)
        return module if side is None else shrink_before(copy.deepcopy(module), side)

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        if not (before.isdecimal() and after.isdecimal()):
            return OTHERWISE
        return "larger input" if int(after) > int(before) else "smaller input"


def chosen_side(prepared: PreparedModel, choice: Choice) -> int | None:
    """The side in pixels that a plan shrinks images to; None where it leaves them as they are."""
    side = int(choice.get(SITE, prepared.network.shape[1]))
    return side if side < prepared.network.shape[1] else None


@remembered_per_object
def _taken(prepared: PreparedModel, side: int) -> bool:
    return computes_alike(prepared.network, prepared.model, side)


PLUGIN = Resize
