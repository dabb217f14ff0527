"""Weights that stay zero while a network is trained, and that may become more in its first epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from paredown.models.compression.sparsity import Sparsity, parsed_n_of_m, prune_by_magnitude


@dataclass(frozen=True)
class SparsityMasks:
    """The sparse layers of a module by name.

    Sparsity is there from the beginning, or it grows over the first `growth` epochs from none to the planned one, along
    the cubic of Zhu & Gupta (To prune, or not to prune, 2017): by magnitude, at the start of each epoch.
    """

    layers: Mapping[str, Sparsity] = field(default_factory=dict)
    growth: int = 0

    def settled(self, epoch: int) -> bool:
        """Whether the zeros of this epoch (from 0) are those that stay."""
        return epoch + 1 >= self.growth

    def apply(self, module: nn.Module, epoch: int) -> dict[str, Tensor]:
        """Sets what is pruned at the start of an epoch to zero; the masks (1 stays) by parameter of what stays."""
        masks = {}
        for layer, sparsity in self.layers.items():
            weight = module.get_parameter(f"{layer}.weight")
            if epoch < self.growth:
                with torch.no_grad():
                    weight.copy_(prune_by_magnitude(weight, self._at(sparsity, epoch)))
            masks[f"{layer}.weight"] = (weight != 0).to(weight.dtype)
        return masks

    def _at(self, sparsity: Sparsity, epoch: int) -> Sparsity:
        if parsed_n_of_m(sparsity.pattern):
            return sparsity  # N of M cannot be half true
        return replace(sparsity, level=sparsity.level * (1 - (1 - (epoch + 1) / self.growth) ** 3))


def reapply_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets to zero again, in place, the weights that an optimizer's step has moved off it."""
    with torch.no_grad():
        for name, mask in masks.items():
            module.get_parameter(name).mul_(mask)
