"""Channels are ranked by what the loss says of them."""

from typing import Any

import pytest
import torch

from paredown.models.compression.channel_importance import rank_channels
from paredown.models.data.dataset import ImageData
from paredown.stages.analysis.prepared_model import PreparedModel

Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def batches(data: ImageData) -> Batches:
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data.batches(data.calibration, 16)]


def test_every_group_has_an_order_of_all_its_channels(prepared: PreparedModel, batches: Batches) -> None:
    order = rank_channels(prepared.network, prepared.groups, batches)
    assert {name: sorted(channels) for name, channels in order.items()} == {
        group.name: list(range(group.width)) for group in prepared.groups
    }


def test_a_channel_that_does_nothing_comes_last(net: torch.nn.Module, batches: Batches, tools: Any) -> None:
    dead = {"block.conv1": ("block.bn1", 5), "pointwise.0": ("pointwise.1", 17)}
    with torch.no_grad():
        for norm, channel in dead.values():
            net.get_parameter(f"{norm}.weight")[channel] = 0
            net.get_parameter(f"{norm}.bias")[channel] = 0
    prepared = tools.subject_of(net)
    order = rank_channels(prepared.network, prepared.groups, batches)
    assert {name: order[name][-1] for name in dead} == {name: channel for name, (_, channel) in dead.items()}


def test_it_is_the_mean_over_images_of_the_squared_gate_gradient(prepared: PreparedModel, batches: Batches) -> None:
    """The last group's gates can be put into the classifier by hand."""
    images, labels = batches[0]
    group = next(group for group in prepared.groups if group.name == "pointwise.0")
    module = prepared.network.module
    seen: list[torch.Tensor] = []
    hook = module.get_submodule("pointwise.0").register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        module(images)
    hook.remove()
    gates = torch.ones(len(images), group.width, 1, 1, requires_grad=True)
    act, head = module.get_submodule("pointwise.2"), module.get_submodule("fc")
    logits = head(act(seen[0].detach() * gates).mean((2, 3)))
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert gates.grad is not None
    expected = gates.grad.flatten(1).square().sum(0)
    order = rank_channels(prepared.network, [group], batches[:1])[group.name]
    ranked = expected[list(order)]
    assert bool((ranked[:-1] >= ranked[1:] - 1e-6 * ranked[0]).all())


def test_batches_add_up_and_no_gradient_is_left(prepared: PreparedModel, batches: Batches) -> None:
    whole = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    assert rank_channels(prepared.network, prepared.groups, whole) == rank_channels(
        prepared.network, prepared.groups, batches
    )
    assert all(p.grad is None for p in prepared.network.graph.parameters())
