"""ResNet's bottleneck, 1x1, 3x3, 1x1, of another ratio (He et al., 2016)."""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block, ResidualBlock, conv_unit


class Bottleneck(Block):
    """Narrow inside, wide outside."""

    ratios: tuple[float, ...] = Field((0.5, 0.25), description="width of the inside, in widths of the output")

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {f"r{ratio:g}".replace(".", "_"): _block(place, ratio) for ratio in self.ratios}


def _block(place: Place, ratio: float) -> nn.Module:
    narrow, act = max(8, round(place.shape_out[0] * ratio / 8) * 8), place.activation
    return ResidualBlock(
        place,
        {
            "reduce": conv_unit((place.shape_in[0], narrow), act=act()),
            "filter": conv_unit((narrow, narrow), 3, place.stride, act=act()),
            "restore": conv_unit((narrow, place.shape_out[0])),
        },
    )


PLUGIN = Bottleneck
