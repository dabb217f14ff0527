"""Which channels matter: the Fisher information of a gate on every channel, from calibration data.

A gate of 1 on channel c scales what the channel computes; the squared gradient of the loss by that gate, averaged over
images, estimates the loss that removing the channel adds (Theis et al., Faster gaze prediction with dense networks and
Fisher pruning, 2018). A group's channels are judged by the sum over the layers that make them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from paredown.models.network.layers import ChannelGroup
from paredown.models.network.logits import logits_behind
from paredown.models.network.trace import Network
from paredown.models.network.watch import watch_values


def rank_channels(
    network: Network, groups: Iterable[ChannelGroup], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, tuple[int, ...]]:
    """Group to its channels, the most important first; batches are (images (N, 3, H, W), labels (N,))."""
    groups = tuple(groups)
    value = {layer.name: layer.value for layer in network.layers}
    made = {value[name] for group in groups for name in group.outputs}
    fisher: dict[str, Tensor] = {}
    for images, labels in batches if groups else ():
        for name, gates in _gate_gradients(network, made, images, labels).items():
            fisher[name] = fisher.get(name, 0) + gates.square().sum(0)
    return {group.name: _ranked(sum(fisher[value[name]] for name in group.outputs)) for group in groups}


def _ranked(importance: Any) -> tuple[int, ...]:
    order = torch.argsort(importance, descending=True, stable=True)
    return tuple(int(index) for index in order)


def _gate_gradients(network: Network, values: set[str], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per value the gradient (N, C) of each image's loss by a gate on each channel."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        value.retain_grad()
        seen[name] = value

    with torch.enable_grad():
        logits = logits_behind(lambda read: watch_values(network.graph, read, keep, values), images)
        loss = cross_entropy(logits, labels, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
    network.graph.zero_grad()
    return {name: _per_channel(x.detach() * x.grad) for name, x in seen.items() if x.grad is not None}


def _per_channel(x: Tensor) -> Tensor:
    """(N, C, H, W) or (N, C) summed to (N, C)."""
    return x.flatten(2).sum(2) if x.ndim == 4 else x
