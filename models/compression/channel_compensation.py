"""Channels that stay take over what removed channels did, by least squares.

A removed channel is predicted, pixel by pixel, as a linear combination of the channels that stay: least squares from
the second moments of what a layer reads. Its weights are then added to theirs. For 1x1 convolutions and linear layers
that is the best that can be done with that layer's weights alone (the reconstruction of He et al., Channel pruning,
2017); for larger kernels it leaves the correlations between pixels aside, which keeps the moments small.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from paredown.models.network.trace import Network
from paredown.models.network.watch import watch_inputs

Moments = Mapping[str, Tensor]
"""Layer to (C, C), the second moments of the channels that it reads, with a ridge on the diagonal."""

RIDGE = 1e-3
"""Of the mean square of a channel."""
NOISE = 0.1
"""More ridge, times channels / pixels: with few pixels the moments themselves are uncertain."""


def second_moments(network: Network, layers: Collection[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Layer to the second moments (C, C) of the channels that it reads on batches of images (N, 3, H, W)."""
    wanted = {layer.value: layer.name for layer in network.layers if layer.name in layers}
    sums: dict[str, Tensor] = {}
    pixels: dict[str, int] = {}

    def add(value: str, read: Tensor) -> None:
        layer, rows = wanted[value], _rows(read)
        sums[layer] = sums.get(layer, 0) + rows.T @ rows
        pixels[layer] = pixels.get(layer, 0) + len(rows)

    with torch.no_grad():
        for batch in batches if wanted else ():
            watch_inputs(network.graph, batch, add, wanted)
    return {name: _ridged(total / pixels[name], pixels[name]) for name, total in sums.items()}


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) or (N, C) as (pixels, C)."""
    return x.movedim(1, -1).flatten(0, -2)


def _ridged(moment: Tensor, pixels: int) -> Tensor:
    ridge = (RIDGE + NOISE * len(moment) / pixels) * moment.diagonal().mean() + 1e-8
    return moment + ridge * torch.eye(len(moment))


def compensated_weight(weight: Tensor, kept: Sequence[int], moment: Tensor) -> Tensor:
    """The weight (out, C, ...) with the part of the removed channels added to the `kept` ones; theirs is zero."""
    gone = sorted(set(range(len(moment))) - set(kept))
    stay = list(kept)
    share = torch.linalg.solve(moment[stay][:, stay], moment[stay][:, gone])  # (kept, gone)
    fresh = torch.zeros_like(weight)
    fresh[:, stay] = weight[:, stay] + torch.einsum("og...,kg->ok...", weight[:, gone], share.to(weight.dtype))
    return fresh
