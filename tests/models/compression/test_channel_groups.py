"""Channel groups are found, checked and taken out without changing anything else."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.compression.channel_groups import (
    channel_groups,
    find_channel_groups,
    remove_channels,
    zero_channels,
)
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.trace import analyse_network
from paredown.stages.analysis.prepared_model import PreparedModel

SHAPE = (3, 12, 12)


class Shuffled(nn.Module):
    """A channel shuffle that a dependency graph does not see through, before a layer that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 12, 1)
        self.fc = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        out: torch.Tensor = self.fc(torch.relu(self.c(torch.relu(self.b(x)))).mean((2, 3)))
        return out


class ShuffledHalves(nn.Module):
    """As in ShuffleNet: half of the channels pass by, and both halves are shuffled; three times, which is
    more than torch-pruning takes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)
        self.units = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1))
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for unit in self.units:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, torch.relu(unit(right))], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        out: torch.Tensor = self.fc(x.mean((2, 3)))
        return out


class Grouped(nn.Module):
    """A grouped convolution, and a depthwise one that doubles its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.grouped = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.doubling, self.last = nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.Conv2d(16, 24, 1)
        self.fc = nn.Linear(24, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.doubling(torch.relu(self.grouped(torch.relu(self.a(x)))))
        out: torch.Tensor = self.fc(torch.relu(self.last(x)).mean((2, 3)))
        return out


class Scaled(nn.Module):
    """Channels times a free parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)
        self.scale = nn.Parameter(torch.full((1, 8, 1, 1), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc((self.a(x) * self.scale).mean((2, 3)))
        return out


class Normalised(nn.Module):
    """Norms that do not fold, with parameters per channel, and the activation that has some too."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.a, self.between, self.b = nn.Conv2d(3, 8, 3), between, nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.b(self.between(self.a(x))).mean((2, 3)))
        return out


def named(groups: tuple[ChannelGroup, ...]) -> dict[str, tuple[set[str], set[str]]]:
    return {group.name: (set(group.outputs), set(group.inputs)) for group in groups}


def test_groups_of_a_residual_network(prepared: PreparedModel) -> None:
    assert named(prepared.groups) == {
        "pointwise.0": ({"pointwise.0"}, {"fc"}),
        "block.conv1": ({"block.conv1"}, {"block.conv2"}),
        "block.conv2": ({"block.conv2", "stem.0", "depthwise"}, {"block.conv1", "pointwise.0"}),
    }
    assert {group.name: group.width for group in prepared.groups} == {
        "pointwise.0": 48,
        "block.conv1": 32,
        "block.conv2": 16,
    }


def test_groups_of_kept_layers_are_left_out(prepared: PreparedModel) -> None:
    groups = channel_groups(prepared.network.module, prepared.network.shape, ["fc", "stem.0"])
    assert set(named(groups)) == {"pointwise.0", "block.conv1"}


def test_the_classes_are_never_a_group(prepared: PreparedModel) -> None:
    assert "fc" not in named(channel_groups(prepared.network.module, prepared.network.shape))


@pytest.mark.parametrize("gone", [[0], [1, 5, 7], list(range(0, 16, 2))], ids=str)
def test_removed_is_zeroed(prepared: PreparedModel, gone: list[int], tools: Any) -> None:
    images = torch.randn(4, *tools.shape)
    for group in prepared.groups:
        zeroed = copy.deepcopy(prepared.network.module)
        zero_channels(zeroed, group, gone)
        stay = [channel for channel in range(group.width) if channel not in gone]
        pruned = remove_channels(prepared.network.module, prepared.network.shape, {group.name: stay})
        torch.testing.assert_close(pruned(images), zeroed(images), rtol=1e-4, atol=1e-5)
        assert not torch.equal(zeroed(images), prepared.network.module(images))
        assert pruned.get_parameter(f"{group.name}.weight").shape[0] == len(stay)


def test_a_module_with_its_norms_is_pruned_too(net: nn.Module, prepared: PreparedModel, tools: Any) -> None:
    kept = {"block.conv2": range(8), "block.conv1": range(0, 32, 2), "pointwise.0": range(24)}
    images = torch.randn(4, *tools.shape)
    pruned = remove_channels(net, tools.shape, kept)
    assert pruned.get_submodule("block.bn1").num_features == 16
    assert pruned.get_submodule("depthwise").groups == 8
    folded = remove_channels(prepared.network.module, tools.shape, kept)
    torch.testing.assert_close(pruned.eval()(images), folded(images), rtol=1e-4, atol=1e-5)
    assert net.get_submodule("block.bn1").num_features == 32


def test_all_channels_kept_is_the_same_module(net: nn.Module, tools: Any) -> None:
    same = remove_channels(net, tools.shape, {"block.conv1": range(32)})
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), net.parameters(), strict=True))


def test_a_shuffle_that_cannot_be_followed_is_left_alone() -> None:
    network = analyse_network(Shuffled().eval(), SHAPE)
    assert set(named(channel_groups(network.module, SHAPE, ["fc"]))) == {"b", "c"}


def test_groups_beside_a_shuffle_that_stops_the_dependency_graph_are_found() -> None:
    network = analyse_network(ShuffledHalves().eval(), SHAPE)
    found = channel_groups(network.module, SHAPE, ["fc"])
    assert set(named(found)) == {"units.0.0", "units.1.0", "units.2.0"}
    narrowed = remove_channels(network.module, SHAPE, {group.name: [1, 2] for group in found})
    assert narrowed.get_submodule("units.1.2").groups == 2
    assert narrowed(torch.zeros(1, *SHAPE)).shape == (1, 2)


def test_grouped_and_doubling_convolutions_are_left_alone() -> None:
    network = analyse_network(Grouped().eval(), SHAPE)
    assert set(named(channel_groups(network.module, SHAPE, ["fc"]))) == {"last"}


def test_channels_that_a_free_parameter_scales_are_left_alone() -> None:
    network = analyse_network(Scaled().eval(), SHAPE)
    assert channel_groups(network.module, SHAPE, ["fc"]) == ()


def test_frozen_parameters_stay_frozen(net: nn.Module, tools: Any) -> None:
    frozen = ["stem.0.weight", "block.conv1.weight", "fc.bias"]
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    channel_groups(net, tools.shape, ["fc"])
    pruned = remove_channels(net, tools.shape, {"block.conv1": range(8)})
    for module in (net, pruned):
        assert sorted(n for n, p in module.named_parameters() if not p.requires_grad) == sorted(frozen)


class Unfollowed(nn.Module):
    """It refuses to compute with gradients, by which torch-pruning would follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("without gradients only")
        out: torch.Tensor = self.fc(torch.relu(self.a(x)).mean((2, 3)))
        return out


def test_a_network_that_cannot_be_followed_keeps_its_channels_and_what_is_frozen() -> None:
    module = Unfollowed().eval()
    module.a.weight.requires_grad_(False)
    found = find_channel_groups(module, SHAPE, ["fc"])
    assert found.groups == ()
    assert found.refused == {"all": "torch-pruning cannot follow the network: without gradients only"}
    assert not module.a.weight.requires_grad


def test_a_classifier_that_reads_several_pixels_side_by_side_leaves_its_channels_alone() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )
    assert [group.name for group in channel_groups(module.eval(), (3, 12, 12), keep=["5"])] == ["0"]


@pytest.mark.parametrize("between", [nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(8, 8)], ids=str)
def test_channels_with_numbers_of_their_own_between_layers_stay(between: nn.Module) -> None:
    module = analyse_network(Normalised(between).eval(), SHAPE).module
    assert set(named(channel_groups(module, SHAPE, ["fc"]))) == {"b"}


def test_slopes_per_channel_are_no_hindrance() -> None:
    module = analyse_network(Normalised(nn.PReLU(8)).eval(), SHAPE).module
    assert set(named(channel_groups(module, SHAPE, ["fc"]))) == {"a", "b"}
