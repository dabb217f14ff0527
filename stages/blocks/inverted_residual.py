"""MobileNetV2's block: expand, filter each channel alone, project (Sandler et al., 2018)."""

from collections.abc import Mapping
from itertools import product

from pydantic import Field
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block, Kernel, ResidualBlock, conv_unit, kernel_name


class InvertedResidual(Block):
    """Wide inside, narrow outside; few multiply-adds, much memory traffic."""

    expansions: tuple[int, ...] = Field((1, 2, 4, 8), description="width of the inside, in widths of the input")
    kernels: tuple[Kernel, ...] = Field((3, 5, (5, 3)), description="kernel sizes; [5, 3] is 5 high and 3 wide")

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {f"e{e}_{kernel_name(k)}": _block(place, e, k) for e, k in product(self.expansions, self.kernels)}


def _block(place: Place, expansion: int, kernel: Kernel) -> nn.Module:
    wide, act = place.shape_in[0] * expansion, place.activation
    expand = {"expand": conv_unit((place.shape_in[0], wide), act=act())} if expansion > 1 else {}
    depthwise = conv_unit((wide, wide), kernel, place.stride, groups=wide, act=act())
    return ResidualBlock(place, {**expand, "depthwise": depthwise, "project": conv_unit((wide, place.shape_out[0]))})


PLUGIN = InvertedResidual
