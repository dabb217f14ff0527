"""ResNet's basic block, two dense 3x3 convolutions, also with a narrower inside (He et al., 2016)."""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block, ResidualBlock, conv_unit


class Basic(Block):
    """Dense and regular; late in a network, where maps are small, hard to beat."""

    ratios: tuple[float, ...] = Field((0.5, 0.25), description="width of the inside, in widths of the output")

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {f"r{ratio:g}".replace(".", "_"): _block(place, ratio) for ratio in self.ratios}


def _block(place: Place, ratio: float) -> nn.Module:
    wide = max(8, round(place.shape_out[0] * ratio / 8) * 8)
    first = conv_unit((place.shape_in[0], wide), 3, place.stride, act=place.activation())
    return ResidualBlock(place, {"first": first, "second": conv_unit((wide, place.shape_out[0]), 3)})


PLUGIN = Basic
