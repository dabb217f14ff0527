"""Patterns of zeros: how they are written, and which weights stay in them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paredown.models.compression.sparsity import (
    Sparsity,
    prune_by_magnitude,
    prune_live_channels,
    weight_as_rows,
    weight_from_rows,
)

EVERY = ("unstructured@0.5", "unstructured@0.9", "block4@0.5", "block4@0.8", "2:4", "1:4")


def weight_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", EVERY)
def test_a_sparsity_is_read_as_it_is_written(name: str) -> None:
    assert str(Sparsity.parse(name)) == name


@pytest.mark.parametrize(
    "name", ["", "dense", "block4", "block4@", "block4@0", "block4@1", "block8@0.5", "4:2", "0:4", "2:2"]
)
def test_what_is_no_sparsity_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"sparsity|float"):
        Sparsity.parse(name)


def test_rows_have_input_channels_innermost() -> None:
    weight = torch.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    rows = weight_as_rows(weight)
    assert rows[1, :4].tolist() == weight[1, :, 0, 0].tolist()
    assert rows[1, 4:8].tolist() == weight[1, :, 0, 1].tolist()
    assert torch.equal(weight_from_rows(rows, weight.shape), weight)
    flat = torch.arange(8).reshape(2, 4)
    assert torch.equal(weight_from_rows(weight_as_rows(flat), flat.shape), flat)


@given(st.sampled_from(EVERY), st.integers(1, 5), st.sampled_from([4, 8, 20]), st.sampled_from([(), (1, 1), (3, 3)]))
def test_zeros_have_the_pattern_and_the_share(name: str, out: int, channels: int, kernel: tuple[int, ...]) -> None:
    sparsity, weight = Sparsity.parse(name), weight_of(out, channels, *kernel)
    pruned = prune_by_magnitude(weight, sparsity)
    kept = weight_as_rows(pruned) != 0
    assert torch.equal(pruned[pruned != 0], weight[pruned != 0])
    in_groups = kept.reshape(-1, sparsity.group).sum(1)
    if ":" in sparsity.pattern:
        assert set(in_groups.tolist()) == {int(sparsity.pattern[0])}
    else:
        assert set(in_groups.tolist()) <= {0, sparsity.group}
        assert abs(float(kept.float().mean()) - (1 - sparsity.level)) <= sparsity.group / kept.numel()
    smallest = float(weight.abs()[pruned != 0].min()) if kept.any() else 0.0
    if sparsity.pattern == "unstructured":
        assert bool((weight.abs()[pruned == 0] <= smallest).all()) or not kept.any()


def test_channels_that_are_gone_do_not_count() -> None:
    weight = weight_of(8, 16, 3, 3)
    narrowed = weight.clone()
    narrowed[::2], narrowed[:, 1::2] = 0, 0
    for name in ("unstructured@0.5", "block4@0.5"):
        sparsity = Sparsity.parse(name)
        pruned = prune_live_channels(narrowed, lambda some, sparsity=sparsity: prune_by_magnitude(some, sparsity))
        assert torch.equal(pruned[1::2][:, ::2], prune_by_magnitude(weight[1::2][:, ::2], sparsity))
        assert not pruned[::2].any() and not pruned[:, 1::2].any()


def test_something_is_always_left() -> None:
    assert int((prune_by_magnitude(weight_of(2, 8), Sparsity.parse("block4@0.95")) != 0).sum()) == 4


def test_a_weight_that_the_pattern_does_not_fit_stays() -> None:
    weight = weight_of(8, 3, 3, 3)
    assert torch.equal(prune_by_magnitude(weight, Sparsity.parse("block4@0.5")), weight)
