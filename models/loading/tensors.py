"""Tensors by name into a module, as files that hold nothing else keep them."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_tensors(module: "nn.Module", tensors: "Mapping[str, Tensor]", *, strict: bool = True) -> None:
    """`load_state_dict` for tensors whose file has no version numbers of modules: they count as this module's own.

    Some modules (torchvision's MNASNet) refuse to load without such a number.
    """
    state = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=strict)
