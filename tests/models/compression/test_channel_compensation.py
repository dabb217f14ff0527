"""Channels that stay take over what removed channels did."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from paredown.models.compression.channel_compensation import compensated_weight, second_moments
from paredown.models.network.trace import analyse_network
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.transforms.narrow import Narrow


def pixels(count: int = 4000, channels: int = 6) -> torch.Tensor:
    """Of which the last two are sums of others."""
    x = torch.randn(count, channels, generator=torch.Generator().manual_seed(0)).relu()
    x[:, 4], x[:, 5] = x[:, 0] + 2 * x[:, 1], x[:, 2] - x[:, 3]
    return x


def test_moments_are_those_of_what_a_layer_reads() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = analyse_network(module.eval(), (3, 5, 5))
    images = torch.randn(6, 3, 5, 5)
    found = second_moments(network, {"0", "4"}, torch.split(images, 2))
    flat = images.movedim(1, -1).flatten(0, 2)
    assert found["0"].shape == (3, 3)
    off = ~torch.eye(3, dtype=torch.bool)
    assert torch.allclose(found["0"][off], (flat.T @ flat / len(flat))[off], atol=1e-5)
    assert (found["0"].diagonal() > (flat.T @ flat / len(flat)).diagonal()).all(), "the ridge"
    assert found["4"].shape == (4, 4)


@pytest.mark.parametrize("kernel", [(), (1, 1), (3, 3)])
def test_channels_that_others_explain_are_not_missed(kernel: tuple[int, ...]) -> None:
    x, weight = pixels(), torch.randn(5, 6, *kernel, generator=torch.Generator().manual_seed(1))
    fresh = compensated_weight(weight, [0, 1, 2, 3], x.T @ x / len(x) + 1e-6 * torch.eye(6))
    assert fresh.shape == weight.shape
    assert (fresh[:, 4:] == 0).all()
    spread = (5, 6, -1)
    before, after = weight.reshape(spread), fresh.reshape(spread)
    assert torch.allclose(torch.einsum("nc,ock->nok", x, before), torch.einsum("nc,ock->nok", x, after), atol=1e-2)


def test_channels_that_nothing_explains_are_just_gone() -> None:
    weight = torch.randn(5, 4)
    assert torch.allclose(compensated_weight(weight, [0, 2], torch.eye(4))[:, [0, 2]], weight[:, [0, 2]])


def test_a_narrowed_network_is_nearer_to_the_original(prepared: PreparedModel) -> None:
    images = torch.randn(64, *prepared.network.shape, generator=torch.Generator().manual_seed(5))
    plain = replace(prepared, moments={})
    with_, without = (TeacherComparison(PlanSpace(one, (Narrow(),)), images) for one in (prepared, plain))
    choices = [{site.name: site.candidates[-2].name} for site in Narrow().sites(prepared)]
    better = [with_.loss(choice) < without.loss(choice) for choice in choices]
    assert sum(better) > len(better) / 2
    assert sum(map(with_.loss, choices)) < 0.8 * sum(map(without.loss, choices))
