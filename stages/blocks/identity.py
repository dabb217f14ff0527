"""Nothing at all: the block is left out, where its input and output have one shape."""

from collections.abc import Mapping

from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import Block


class Identity(Block):
    """A network one block less deep."""

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {"": nn.Identity()} if place.same_shape else {}


PLUGIN = Identity
