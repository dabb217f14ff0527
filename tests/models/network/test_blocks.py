"""Blocks: modules that another could stand for."""

import pytest
import torch
from torch import Tensor, nn

from paredown.models.compression.supernet import attach_replacements, pick_branch
from paredown.models.network.blocks import find_blocks
from paredown.models.network.trace import analyse_network

BODY = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = BODY

    def forward(self, x: Tensor, shortcut: Tensor | None = None, children: object = None) -> Tensor:
        return self.body(x) + x  # type: ignore[no-any-return]


class Net(nn.Module):
    """A network that calls its block as `call` says."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), Block(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = eval(self.call, {"self": self, "x": x, "other": x + 1})
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("call", ["self.block(x)", "self.block(x, None)", "self.block(x, x, children=None)"])
def test_a_block_may_have_arguments_beside_its_map(call: str) -> None:
    net = Net(call).eval()
    assert [place.name for place in find_blocks(analyse_network(net, (3, 8, 8)))] == ["block"]
    instead, images = {"block": {"other": nn.Conv2d(4, 4, 1)}}, torch.randn(2, 3, 8, 8)
    assert torch.isfinite(attach_replacements(net, instead)(images)).all()
    assert pick_branch(net, instead, {"block": "other"})(images).shape == (2, 2)


@pytest.mark.parametrize("call", ["self.block(x, other)", "self.block(x=x)", "self.block(x, children=[other])"])
def test_what_is_called_with_more_maps_or_by_name_stays(call: str) -> None:
    """What would stand there instead could not know which map is meant."""
    assert find_blocks(analyse_network(Net(call).eval(), (3, 8, 8))) == ()
