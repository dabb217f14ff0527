"""One-shot pruning of a layer: the weights that stay take over what the others did (SparseGPT, 2023)."""

from collections.abc import Callable

import torch
from torch import Tensor

from paredown.models.compression.sparsity import (
    Sparsity,
    best_groups,
    magnitude_mask,
    parsed_n_of_m,
    weight_as_rows,
    weight_from_rows,
)

COLUMNS = 128
"""Columns that the sweep works on before the columns after them take over its errors."""

DAMPING = 0.01
"""Of the mean square of a column, on the diagonal of the second moments."""

NOISE = 0.1
"""More damping, times columns / patches: with few patches the moments themselves are uncertain."""

STEPS = 10
"""Of conjugate gradients: five more changed nothing."""


def one_shot_pruner(moment: Tensor, patches: int) -> Callable[[Tensor, Sparsity], Tensor]:
    """One-shot pruning with second-order reconstruction, of layers whose patches have these second moments.

    `moment` (columns, columns) is the mean of x x^T over so many `patches` x, columns as in `weight_as_rows`. The
    result takes a weight (out, in, *kernel) and prunes it so that what the layer computes on the patches changes least:
    column by column the error that a removed weight makes is taken over by the columns after it, in closed form
    (Frantar & Alistarh, SparseGPT, 2023, after Hassibi & Stork, Optimal brain surgeon, 1993). How many weights each
    part of the columns loses is decided beforehand for the whole layer, by the loss that removing each alone would
    bring. What stays is then solved for once more, all of a row together.
    """
    damped = moment.double()
    damping = (DAMPING + NOISE * len(moment) / patches) * damped.diagonal().mean() + 1e-12
    damped.diagonal().add_(damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True).float()
    alone, whole = inverse.diagonal().float(), damped.float()

    def prune(weight: Tensor, sparsity: Sparsity) -> Tensor:
        rows = weight_as_rows(weight.detach())
        return weight_from_rows(_closest(rows, _sweep(rows, sparsity, upper, alone), whole), weight.shape)

    return prune


def _sweep(rows: Tensor, sparsity: Sparsity, upper: Tensor, alone: Tensor) -> Tensor:
    """(out, columns) pruned; `upper` is the Cholesky factor of the inverse moments, `alone` their diagonal."""
    rows, first = rows.clone(), magnitude_mask(rows.square() / alone, sparsity)
    whole = COLUMNS // sparsity.group * sparsity.group
    for start in range(0, rows.shape[1], whole):
        stop = min(start + whole, rows.shape[1])
        part, errors = rows[:, start:stop], torch.zeros_like(rows[:, start:stop])
        factor = upper[start:stop, start:stop]
        stay = _again(part, factor, sparsity, first[:, start:stop])
        for column in range(stop - start):
            kept = part[:, column] * stay[:, column]
            errors[:, column] = (part[:, column] - kept) / factor[column, column]
            part[:, column + 1 :] -= errors[:, column : column + 1] * factor[column, column + 1 :]
            part[:, column] = kept
        rows[:, stop:] -= errors @ upper[start:stop, stop:]
    return rows


def _closest(rows: Tensor, pruned: Tensor, moment: Tensor) -> Tensor:
    """The weights with the zeros of `pruned` that come closest to what `rows` compute: least squares per row, by
    conjugate gradients, scaled by the diagonal, in all rows at once."""
    kept, diagonal = (pruned != 0).to(rows.dtype), moment.diagonal()
    rest = ((rows - pruned) @ moment) * kept
    scaled = rest / diagonal
    ahead, size = scaled, (rest * scaled).sum(1, keepdim=True)
    for _ in range(STEPS):
        bent = (ahead @ moment) * kept
        step = size / ((ahead * bent).sum(1, keepdim=True) + 1e-20)
        pruned, rest = pruned + step * ahead, rest - step * bent
        scaled, before = rest / diagonal, size
        size = (rest * scaled).sum(1, keepdim=True)
        ahead = scaled + size / (before + 1e-20) * ahead
    return pruned


def _again(part: Tensor, factor: Tensor, sparsity: Sparsity, planned: Tensor) -> Tensor:
    """What stays of these columns as they are by now: as many as were planned."""
    scores = part.square() / factor.diagonal().square()
    if parsed_n_of_m(sparsity.pattern):
        return magnitude_mask(scores, sparsity)
    if not planned.any():
        return planned
    return best_groups(scores, sparsity.group, float(planned.float().mean()))
