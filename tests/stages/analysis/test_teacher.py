"""How weights of networks are kept."""

from pathlib import Path
from typing import Any

import pytest
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


class _Versioned(nn.Linear):
    """Reads its weights by their version, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        assert metadata["version"] == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_weights_are_read_with_the_version_of_their_module(tmp_path: Path) -> None:
    net, other = _Versioned(2, 2), _Versioned(2, 2)
    save_weights(net, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other.weight, net.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(nn.Sequential(other), tmp_path / "w.safetensors")
