"""MobileNetV1's block: filter each channel alone, then mix (Howard et al., 2017)."""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block, Kernel, ResidualBlock, conv_unit, kernel_name


class DepthwiseSeparable(Block):
    """The inverted residual without its expansion and without an activation inside."""

    kernels: tuple[Kernel, ...] = Field((3,), description="kernel sizes; [5, 3] is 5 high and 3 wide")

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {kernel_name(kernel): _block(place, kernel) for kernel in self.kernels}


def _block(place: Place, kernel: Kernel) -> nn.Module:
    width = place.shape_in[0]
    depthwise = conv_unit((width, width), kernel, place.stride, groups=width)
    return ResidualBlock(place, {"depthwise": depthwise, "mix": conv_unit((width, place.shape_out[0]))})


PLUGIN = DepthwiseSeparable
