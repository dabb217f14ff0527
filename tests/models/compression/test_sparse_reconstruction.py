"""Weights that stay take over what the others did."""

import pytest
import torch
from torch import Tensor

from paredown.models.compression.sparse_reconstruction import one_shot_pruner
from paredown.models.compression.sparsity import Sparsity, magnitude_mask, prune_by_magnitude, weight_as_rows

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
    rows = weight_as_rows(changed - weight)
    return float(((rows @ moment) * rows).sum())


def test_groups_of_any_size_are_solved_for() -> None:
    weight = weight_of(12, 132)
    for name in ("1:3", "2:6", "2:12"):
        sparsity = Sparsity.parse(name)
        kept = one_shot_pruner(correlated(132), 10**6)(weight, sparsity) != 0
        assert set(kept.reshape(-1, sparsity.group).sum(1).tolist()) == {int(name[0])}


@pytest.mark.parametrize("name", EVERY)
def test_without_correlations_there_is_nothing_to_take_over(name: str) -> None:
    weight, sparsity = weight_of(16, 8, 3, 3), Sparsity.parse(name)
    pruned = one_shot_pruner(torch.eye(72), 10**6)(weight, sparsity)
    torch.testing.assert_close(pruned, prune_by_magnitude(weight, sparsity))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (16, 160, 1, 1), (4, 136)])
def test_what_stays_takes_over_what_goes(name: str, shape: tuple[int, ...]) -> None:
    weight, sparsity = weight_of(*shape), Sparsity.parse(name)
    moment = correlated(weight[0].numel())
    pruned = one_shot_pruner(moment, 10**6)(weight, sparsity)
    kept = weight_as_rows(pruned) != 0
    assert float(kept.float().mean()) == pytest.approx(1 - sparsity.level, abs=0.01)
    assert set(kept.reshape(-1, sparsity.group).sum(1).tolist()) <= (
        {int(sparsity.pattern[0])} if ":" in sparsity.pattern else {0, sparsity.group}
    )
    assert error(pruned, weight, moment) < 0.7 * error(prune_by_magnitude(weight, sparsity), weight, moment)


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
    assert bool(magnitude_mask(weight_as_rows(pruned).square(), Sparsity.parse("block4@0.8")).any())
