"""Patterns of zeros, and what one-shot pruning with reconstruction makes of a weight."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paredown.models.compression.sparse_reconstruction import one_shot_pruner
from paredown.models.compression.sparsity import Sparsity, among_live_channels, as_rows, by_magnitude, from_rows, mask

EVERY = ("unstructured@0.5", "unstructured@0.9", "block4@0.5", "block4@0.8", "2:4", "1:4")


def correlated(columns: int, patches: int = 4000) -> Tensor:
    """(columns, columns) second moments of columns that resemble their neighbours, as those of images do."""
    generator, place = torch.Generator().manual_seed(0), torch.arange(columns)
    mix = 0.8 ** (place[:, None] - place).abs()
    x = torch.randn(patches, columns, generator=generator) @ mix
    return x.T @ x / patches


def weight_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def error(changed: Tensor, weight: Tensor, moment: Tensor) -> float:
    """Mean square of what the layer computes otherwise."""
    rows = as_rows(changed - weight)
    return float(((rows @ moment) * rows).sum())


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
    rows = as_rows(weight)
    assert rows[1, :4].tolist() == weight[1, :, 0, 0].tolist()
    assert rows[1, 4:8].tolist() == weight[1, :, 0, 1].tolist()
    assert torch.equal(from_rows(rows, weight.shape), weight)
    flat = torch.arange(8).reshape(2, 4)
    assert torch.equal(from_rows(as_rows(flat), flat.shape), flat)


@given(st.sampled_from(EVERY), st.integers(1, 5), st.sampled_from([4, 8, 20]), st.sampled_from([(), (1, 1), (3, 3)]))
def test_zeros_have_the_pattern_and_the_share(name: str, out: int, channels: int, kernel: tuple[int, ...]) -> None:
    sparsity, weight = Sparsity.parse(name), weight_of(out, channels, *kernel)
    pruned = by_magnitude(weight, sparsity)
    kept = as_rows(pruned) != 0
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
        pruned = among_live_channels(narrowed, lambda some, sparsity=sparsity: by_magnitude(some, sparsity))
        assert torch.equal(pruned[1::2][:, ::2], by_magnitude(weight[1::2][:, ::2], sparsity))
        assert not pruned[::2].any() and not pruned[:, 1::2].any()


def test_something_is_always_left() -> None:
    assert int((by_magnitude(weight_of(2, 8), Sparsity.parse("block4@0.95")) != 0).sum()) == 4


def test_groups_of_any_size_are_solved_for() -> None:
    weight = weight_of(12, 132)
    for name in ("1:3", "2:6", "2:12"):
        sparsity = Sparsity.parse(name)
        kept = one_shot_pruner(correlated(132), 10**6)(weight, sparsity) != 0
        assert set(kept.reshape(-1, sparsity.group).sum(1).tolist()) == {int(name[0])}


def test_a_weight_that_the_pattern_does_not_fit_stays() -> None:
    weight = weight_of(8, 3, 3, 3)
    assert torch.equal(by_magnitude(weight, Sparsity.parse("block4@0.5")), weight)


@pytest.mark.parametrize("name", EVERY)
def test_without_correlations_there_is_nothing_to_take_over(name: str) -> None:
    weight, sparsity = weight_of(16, 8, 3, 3), Sparsity.parse(name)
    pruned = one_shot_pruner(torch.eye(72), 10**6)(weight, sparsity)
    torch.testing.assert_close(pruned, by_magnitude(weight, sparsity))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (16, 160, 1, 1), (4, 136)])
def test_what_stays_takes_over_what_goes(name: str, shape: tuple[int, ...]) -> None:
    weight, sparsity = weight_of(*shape), Sparsity.parse(name)
    moment = correlated(weight[0].numel())
    pruned = one_shot_pruner(moment, 10**6)(weight, sparsity)
    kept = as_rows(pruned) != 0
    assert float(kept.float().mean()) == pytest.approx(1 - sparsity.level, abs=0.01)
    assert set(kept.reshape(-1, sparsity.group).sum(1).tolist()) <= (
        {int(sparsity.pattern[0])} if ":" in sparsity.pattern else {0, sparsity.group}
    )
    assert error(pruned, weight, moment) < 0.7 * error(by_magnitude(weight, sparsity), weight, moment)


def test_one_weight_that_goes_is_taken_over_as_in_the_closed_form() -> None:
    """Of two columns: the later one takes w_0 H_01 / H_11, the least squares solution."""
    moment, weight = torch.tensor([[1.0, 0.9], [0.9, 4.0]]), torch.tensor([[0.1, 5.0]])
    pruned = one_shot_pruner(moment, 10**9)(weight, Sparsity.parse("unstructured@0.5"))
    assert pruned[0, 0] == 0
    assert float(pruned[0, 1]) == pytest.approx(5.0 + 0.1 * 0.9 / (4.0 + 0.01 * 2.5), rel=1e-5)


def test_what_stays_is_the_best_that_these_places_can_hold() -> None:
    weight, moment, sparsity = weight_of(4, 24), correlated(24), Sparsity.parse("unstructured@0.5")
    pruned = one_shot_pruner(moment, 10**9)(weight, sparsity)
    damped = moment + 0.01 * moment.diagonal().mean() * torch.eye(24)
    for row, whole in zip(pruned, weight, strict=True):
        kept = row != 0
        best = torch.zeros(24)
        best[kept] = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ whole)
        left, least = (error((some - whole)[None], torch.zeros(1, 24), damped) for some in (row, best))
        assert left == pytest.approx(least, rel=0.01)


def test_few_patches_do_not_end_in_infinite_weights() -> None:
    x = torch.randn(5, 72, generator=torch.Generator().manual_seed(2))
    weight = weight_of(16, 8, 3, 3)
    pruned = one_shot_pruner(x.T @ x / 5, 5)(weight, Sparsity.parse("block4@0.8"))
    assert bool(pruned.isfinite().all()) and float(pruned.abs().max()) < 10 * float(weight.abs().max())
    assert bool(mask(as_rows(pruned).square(), Sparsity.parse("block4@0.8")).any())
