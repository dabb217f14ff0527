"""EfficientNetV2's block: expand with a dense 3x3, project (Tan and Le, 2021)."""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block, ResidualBlock, conv_unit


class FusedInvertedResidual(Block):
    """More multiply-adds than the inverted residual, but dense ones, which many runtimes compute faster."""

    expansions: tuple[float, ...] = Field((0.5, 1, 2), description="width of the inside, in widths of the input")

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {f"e{expansion:g}".replace(".", "_"): _block(place, expansion) for expansion in self.expansions}


def _block(place: Place, expansion: float) -> nn.Module:
    wide = max(8, round(place.shape_in[0] * expansion / 8) * 8)
    expand = conv_unit((place.shape_in[0], wide), 3, place.stride, act=place.activation())
    return ResidualBlock(place, {"expand": expand, "project": conv_unit((wide, place.shape_out[0]))})


PLUGIN = FusedInvertedResidual
