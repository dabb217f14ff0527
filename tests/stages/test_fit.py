"""What `fit` trains of a network whose code froze parts of it, and how weights are kept."""

from pathlib import Path

import pytest
import torch
from torch import nn

from paredown.models.errors import InputError
from paredown.stages.analysis.teacher import load_weights, save_weights
from paredown.stages.fit import thawed
from paredown.stages.training.loop import with_gradient


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_what_is_frozen_stays_so_unless_nothing_is_left_to_train() -> None:
    net = _net()
    assert thawed(net) == []
    net[0].requires_grad_(False)
    assert thawed(net) == ["fit: the model's code froze 2 of 4 parameters, they stay so; recover trains them all"]
    assert [parameter.requires_grad for parameter in net.parameters()] == [False, False, True, True]
    net.requires_grad_(False)
    assert thawed(net) == ["fit: the model's code froze all parameters; they are trained here"]
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_tied_weights_are_saved_under_each_of_their_names(tmp_path: Path) -> None:
    net = _net()
    net[1].weight = net[0].weight
    save_weights(net, tmp_path / "w.safetensors")
    other = _net()
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other[0].weight, net[0].weight) and torch.equal(other[1].weight, net[0].weight)


def test_a_loss_without_gradient_is_refused() -> None:
    net = _net()
    loss = net(torch.ones(1, 2)).sum()
    assert with_gradient(loss) is loss
    with pytest.raises(InputError, match="cannot be trained: its answers have no gradient"):
        with_gradient(loss.detach())
