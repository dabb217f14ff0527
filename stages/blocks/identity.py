"""Nothing at all: the block is left out, where its input and output have one shape."""

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from paredown.models.network.blocks import Place
from paredown.models.spec import Spec


class Identity(Spec):
    """A network one block less deep."""

    REQUIRES: ClassVar[Mapping[str, str]] = {}

    def build(self, place: Place) -> Mapping[str, nn.Module]:
        return {"": nn.Identity()} if place.same_shape else {}


PLUGIN = Identity
