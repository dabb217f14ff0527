"""Weights pruned beforehand: each layer at each sparsity, reconstructed on calibration images and packed for a file."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paredown.models.compression.sparse_reconstruction import one_shot_pruner
from paredown.models.compression.sparsity import Sparsity
from paredown.models.network.trace import Network
from paredown.models.network.watch import input_of_node
from paredown.models.progress import Progress, silent_progress

PATCHES = 4096
"""Patches of a batch that are looked at, evenly spread."""
WIDEST = 10_000
"""Columns of a layer that is still reconstructed."""


@dataclass(frozen=True)
class PackedWeight:
    """A weight with many zeros: one bit for every entry (8 in a byte), and in order the entries that are not zero."""

    bits: Tensor
    values: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor) -> "PackedWeight":
        there = weight.flatten() != 0
        return cls(torch.from_numpy(np.packbits(there.numpy())), weight.flatten()[there], tuple(weight.shape))

    def dense(self) -> Tensor:
        """The weight, zeros included."""
        size = int(np.prod(self.shape))
        there = torch.from_numpy(np.unpackbits(self.bits.numpy(), count=size).astype(bool))
        fresh = torch.zeros(size)
        fresh[there] = self.values
        return fresh.reshape(self.shape)


PrunedWeights = Mapping[str, Mapping[str, PackedWeight]]
"""Layer to sparsity (as it is written) to the layer's folded weight."""


def prune_layers(
    network: Network,
    wanted: Mapping[str, Sequence[Sparsity]],
    batches: Sequence[Tensor],
    done: Collection[str] = (),
    progress: Progress = silent_progress,
) -> dict[str, dict[str, PackedWeight]]:
    """Layer to sparsity to pruned weight, of every wanted layer that is in the network and not `done`.

    `batches` are calibration images (N, 3, H, W). Layers of more than `WIDEST` columns are left out, as their moments
    would take gigabytes.
    """
    small = [layer for layer in network.layers if layer.channels_in * layer.kernel <= WIDEST]
    layers = [layer.name for layer in small if layer.name in wanted.keys() - set(done)]
    pruned: dict[str, dict[str, PackedWeight]] = {}
    for index, name in enumerate(layers):
        progress("profile: prune", index, len(layers))
        prune = one_shot_pruner(*patch_moment(network, name, batches))
        weight = network.module.get_parameter(f"{name}.weight").detach()
        pruned[name] = {str(sparsity): PackedWeight.of(prune(weight, sparsity)) for sparsity in wanted[name]}
    return pruned


def patch_moment(network: Network, layer: str, batches: Iterable[Tensor]) -> tuple[Tensor, int]:
    """The second moments (columns, columns) of what a layer multiplies its weights with, and of how many patches.

    Columns are ordered as in `sparsity.weight_as_rows`. A layer at a time, as the moments of a wide one take 85 MB.
    """
    value, module = network.layer(layer).value, network.module.get_submodule(layer)
    total, count = torch.zeros(()), 0

    for batch in batches:
        with torch.no_grad():
            read = input_of_node(network.graph, batch, value)
        each = -(-PATCHES // len(read))
        for image in torch.split(read, 1):  # all patches of a batch at once would be gigabytes
            rows = patches_of(module, image)
            rows = rows[:: max(1, len(rows) // each)]
            total, count = total + rows.T @ rows, count + len(rows)
    return total / count, count


def patches_of(module: nn.Module, read: Tensor) -> Tensor:
    """(patches, columns) of what a convolution or linear layer reads."""
    if not isinstance(module, nn.Conv2d):
        return read.flatten(0, -2)
    # What `Conv2d` itself pads with, for every mode and for padding in words.
    sides: list[int] = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    read = nn.functional.pad(read, sides, mode=mode)
    cut = nn.functional.unfold(read, module.kernel_size, module.dilation, 0, module.stride)
    places = module.kernel_size[0] * module.kernel_size[1]
    return cut.reshape(len(cut), -1, places, cut.shape[-1]).permute(0, 3, 2, 1).flatten(2).flatten(0, 1)


def save_pruned(pruned: PrunedWeights, path: Path) -> None:
    tensors = dict[str, Tensor]()
    for layer, by_sparsity in pruned.items():
        for name, packed in by_sparsity.items():
            key = f"{layer}|{name}|{','.join(map(str, packed.shape))}"
            tensors |= {f"{key}|bits": packed.bits, f"{key}|values": packed.values}
    save_file(tensors, path)


def load_pruned(path: Path) -> dict[str, dict[str, PackedWeight]]:
    tensors, pruned = load_file(path), dict[str, dict[str, PackedWeight]]()
    for key in (key.removesuffix("|bits") for key in tensors if key.endswith("|bits")):
        layer, name, shape = key.split("|")
        packed = PackedWeight(tensors[f"{key}|bits"], tensors[f"{key}|values"], tuple(map(int, shape.split(","))))
        pruned.setdefault(layer, {})[name] = packed
    return pruned
