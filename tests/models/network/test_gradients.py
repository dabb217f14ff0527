"""Layers that no gradient reaches in a training step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.models.network.gradients import untrained_notes

SHAPE = (3, 8, 8)


class Net(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.stem, self.norm, self.late = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.unused, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.fc(self.late(self.between(self.norm(self.stem(x)))).mean((2, 3)))
        return answer


def _without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 1


@pytest.mark.parametrize("between", [torch.detach, _without_gradient])
def test_what_is_behind_a_detached_value_is_named(between: Callable[[Tensor], Tensor]) -> None:
    module = Net(between).eval()
    held = {name: value.clone() for name, value in module.state_dict().items()}
    (note,) = untrained_notes(module, SHAPE)
    assert "no gradient reaches 2 of 4 layers (stem, norm)" in note
    assert not module.training and all(torch.equal(held[name], value) for name, value in module.state_dict().items())


def test_sound_frozen_and_failing_networks_have_no_note() -> None:
    assert untrained_notes(Net(torch.relu), SHAPE) == []
    frozen = Net(torch.detach)
    frozen.stem.requires_grad_(False)
    frozen.norm.requires_grad_(False)
    assert untrained_notes(frozen, SHAPE) == []
    assert untrained_notes(Net(torch.relu), (3, 2, 2)) == []
    assert untrained_notes(Net(torch.detach).requires_grad_(False), SHAPE) == []
