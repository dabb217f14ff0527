"""Tensors that are loaded by name."""

from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.loading.tensors import load_tensors


class Versioned(nn.Linear):
    """Refuses, as torchvision's MNASNet does, what does not say of which version it is."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *others: Any) -> None:
        if metadata.get("version") != 2:
            raise ValueError(f"version should be 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *others)


def test_tensors_without_a_version_count_as_the_modules_own() -> None:
    one, other = (nn.Sequential(Versioned(3, 2)) for _ in range(2))
    tensors = {name: value.clone() for name, value in one.state_dict().items()}
    load_tensors(other, tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in other.state_dict().items())


def test_names_that_do_not_fit_are_refused_unless_they_may() -> None:
    module = nn.Sequential(Versioned(3, 2))
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.bias"):
        load_tensors(module, {"0.weight": torch.zeros(2, 3)})
    load_tensors(module, {"0.weight": torch.zeros(2, 3)}, strict=False)
    assert not module.state_dict()["0.weight"].any()
