"""How weights of networks are kept."""

from pathlib import Path

import torch
from torch import nn

from paredown.stages.analysis.teacher import load_weights, save_weights


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_tied_weights_are_saved_under_each_of_their_names(tmp_path: Path) -> None:
    net = _net()
    net[1].weight = net[0].weight
    save_weights(net, tmp_path / "w.safetensors")
    other = _net()
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other[0].weight, net[0].weight) and torch.equal(other[1].weight, net[0].weight)
