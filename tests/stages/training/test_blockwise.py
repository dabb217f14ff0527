"""A replacement learns a block from the block's own inputs and outputs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.network.batch_norm import reestimate_statistics
from paredown.models.network.blocks import Place
from paredown.stages.blocks.base import ResidualBlock, conv_unit
from paredown.stages.training.blockwise import (
    BlockFeatures,
    fit_last_layer,
    record_features,
    relative_error,
    train_replacement,
)

PLACE = Place("block", (8, 10, 10), (8, 10, 10), "relu", False)


def images(tools: Any, count: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, *tools.shape, generator=generator) for _ in range(count // 4)]


def features(target: nn.Module, count: int = 48) -> BlockFeatures:
    """Of a block with batch norms that have seen such inputs."""
    x = torch.randn(count, *PLACE.shape_in, generator=torch.Generator().manual_seed(1))
    reestimate_statistics(target, [x])
    with torch.no_grad():
        return BlockFeatures(x, target(x))


def test_what_is_recorded_is_what_the_block_reads_and_computes(net: nn.Module, tools: Any) -> None:
    batches = images(tools)
    found = record_features(net, "block", "block", batches)
    assert found.inputs.shape == (8, 16, 12, 12)
    with torch.no_grad():
        before = net.get_submodule("stem")(torch.cat(batches))
        assert torch.allclose(found.inputs, before, atol=1e-6)
        assert torch.allclose(found.outputs, net.get_submodule("block")(before.clone()), atol=1e-6)
    assert not net.get_submodule("block")._forward_hooks
    assert not net.get_submodule("block")._forward_pre_hooks


def test_nothing_behind_the_block_is_computed(net: nn.Module, tools: Any) -> None:
    net.get_submodule("fc").register_forward_hook(lambda *_: pytest.fail("the classifier ran"))
    record_features(net, "block", "block", images(tools))


def test_learnt_and_judged_features_are_apart() -> None:
    learnt, judged = features(nn.Identity(), 40).split()
    assert (len(learnt.inputs), len(judged.inputs)) == (32, 8)
    assert not (judged.inputs[:1] == learnt.inputs).flatten(1).all(1).any()


def test_the_error_of_a_copy_is_zero_and_of_a_constant_one() -> None:
    target = conv_unit((8, 8), 3)
    assert relative_error(target, features(target)) == pytest.approx(0, abs=1e-9)
    found = features(target)

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return found.outputs.mean().expand(len(x), *PLACE.shape_out)

    assert relative_error(Constant(), found) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kernel", [1, 3])
def test_least_squares_finds_a_linear_block_at_once(kernel: int) -> None:
    """A residual whose last convolution alone can express the target: the solution is exact without a training step."""
    torch.manual_seed(0)
    target = nn.Conv2d(8, 8, kernel, padding=kernel // 2)
    module = ResidualBlock(PLACE, {"last": conv_unit((8, 8), kernel)})
    found = features(target)
    fit_last_layer(module, found)
    assert relative_error(module, found) < 1e-3
    assert next(p for n, p in module.named_parameters() if n.endswith("norm.weight")).requires_grad


def test_least_squares_is_a_better_start_than_chance() -> None:
    torch.manual_seed(0)
    target = ResidualBlock(PLACE, {"expand": conv_unit((8, 32), 3, act=nn.ReLU()), "project": conv_unit((32, 8))})
    wide = {
        "expand": conv_unit((8, 24), act=nn.ReLU()),
        "filter": conv_unit((24, 24), 3, groups=24),
        "project": conv_unit((24, 8)),
    }
    module, found = ResidualBlock(PLACE, wide), features(target)
    before = relative_error(module, found)
    fit_last_layer(module, found)
    assert relative_error(module, found) < 0.9 * before


def test_what_has_no_last_dense_convolution_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit_last_layer(module, features(nn.Identity()))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    fit_last_layer(nn.Identity(), features(nn.Identity()))


@pytest.mark.parametrize(
    "last",
    [
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(8, 8, 3, padding="same", bias=False),
        nn.Conv2d(8, 8, 1),
    ],
    ids=["dilated", "same", "bias"],
)
def test_a_last_convolution_that_cannot_be_solved_is_left_alone(last: nn.Conv2d) -> None:
    module, before = nn.Sequential(last, nn.BatchNorm2d(8)), last.weight.clone()
    fit_last_layer(module, features(nn.Identity()))
    assert torch.equal(last.weight, before)


def test_a_pooling_behind_the_last_convolution_is_no_error() -> None:
    place = replace(PLACE, shape_out=(8, 5, 5))
    x = torch.randn(16, *place.shape_in)
    module = nn.Sequential(conv_unit((8, 8)), nn.AvgPool2d(2))
    fit_last_layer(module, BlockFeatures(x, nn.functional.avg_pool2d(x, 2)))


def test_training_brings_it_nearer_and_repeats_to_the_bit() -> None:
    def trained() -> nn.Module:
        torch.manual_seed(0)
        module = ResidualBlock(PLACE, {"expand": conv_unit((8, 16), 3, act=nn.ReLU()), "project": conv_unit((16, 8))})
        train_replacement(module, found, 40, 3e-3, seed=0)
        return module

    torch.manual_seed(3)
    found = features(
        ResidualBlock(PLACE, {"expand": conv_unit((8, 16), 3, act=nn.ReLU()), "project": conv_unit((16, 8))})
    )
    torch.manual_seed(0)
    fresh = ResidualBlock(PLACE, {"expand": conv_unit((8, 16), 3, act=nn.ReLU()), "project": conv_unit((16, 8))})
    first, second = trained(), trained()
    assert relative_error(first, found) < 0.8 * relative_error(fresh, found)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_nothing_to_learn_is_no_error() -> None:
    train_replacement(nn.Identity(), features(nn.Identity()), 5, 1e-3, seed=0)
    assert relative_error(nn.Identity(), features(nn.Identity())) == 0
    assert replace(PLACE, shape_out=(8, 5, 5)).stride == 2
