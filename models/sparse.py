"""Weights with zeros: which patterns there are, which weights stay, and what the others did given to those that stay.

A weight (out, in, *kernel) is seen as rows of an output channel, input channels innermost: four neighbours in a row are
four input channels at one place of the kernel, which is what block-sparse kernels load at once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 4
"""Input channels of a block that stay or go together."""

COLUMNS = 128
"""Columns that the sweep works on before it tells the others."""

DAMPING = 0.01
"""Of the mean square of a column, on the diagonal of the second moments."""
STEPS = 10
"""Of conjugate gradients: five more changed nothing."""
NOISE = 0.1
"""More damping, times columns / patches: with few patches the moments themselves are uncertain."""


@dataclass(frozen=True)
class Sparsity:
    """A pattern, and the share of the weights that are zero. Written `block4@0.8`; N:M patterns say it all: `2:4`.

    `unstructured`: any weight. `block4`: blocks of four input channels. `N:M`: of M input channels in a row N stay.
    """

    pattern: str
    level: float

    def __str__(self) -> str:
        return self.pattern if ":" in self.pattern else f"{self.pattern}@{self.level:g}"

    @classmethod
    def parse(cls, name: str) -> "Sparsity":
        """Raises ValueError for what is no pattern with its level."""
        pattern, _, level = name.partition("@")
        if kept := n_of_m(pattern):
            return cls(pattern, 1 - kept[0] / kept[1])
        if pattern not in PATTERNS or not 0 < float(level or 0) < 1:
            raise ValueError(
                f"{name!r} is no sparsity; allowed: {', '.join(PATTERNS)} with a level, as block4@0.8, or N:M"
            )
        return cls(pattern, float(level))

    @property
    def group(self) -> int:
        """Neighbouring columns that the pattern looks at together; a row must be a multiple of them."""
        kept = n_of_m(self.pattern)
        return kept[1] if kept else BLOCK if self.pattern == "block4" else 1


PATTERNS = ("unstructured", "block4")
"""Those that come with a level."""


def n_of_m(pattern: str) -> tuple[int, int] | None:
    """(2, 4) for `2:4`; None for what is no N:M pattern."""
    found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", pattern)
    kept, group = (int(found[1]), int(found[2])) if found else (0, 0)
    return (kept, group) if 0 < kept < group else None


def as_rows(weight: Tensor) -> Tensor:
    """(out, in, *kernel) as (out, kernel * in)."""
    return weight.flatten(2).transpose(1, 2).flatten(1) if weight.ndim > 2 else weight


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `as_rows`."""
    return rows.reshape(len(rows), -1, shape[1]).transpose(1, 2).reshape(shape)


def mask(scores: Tensor, sparsity: Sparsity) -> Tensor:
    """Which of (rows, columns) stay, as booleans: those of the highest scores, in the pattern."""
    if kept := n_of_m(sparsity.pattern):
        return _best_of_each(scores.reshape(-1, kept[1]), kept[0]).reshape(scores.shape)
    return _best_groups(scores, sparsity.group, 1 - sparsity.level)


def _best_of_each(scores: Tensor, count: int) -> Tensor:
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.topk(count, dim=1).indices, True)


def _best_groups(scores: Tensor, group: int, share: float) -> Tensor:
    """The best share of all groups of so many neighbours, one at least."""
    grouped = scores.reshape(len(scores), -1, group).sum(-1)
    chosen = torch.zeros(grouped.numel(), dtype=torch.bool, device=scores.device)
    chosen[grouped.flatten().topk(max(1, round(share * grouped.numel()))).indices] = True
    return chosen.reshape(grouped.shape).repeat_interleave(group, dim=1)


def by_magnitude(weight: Tensor, sparsity: Sparsity) -> Tensor:
    """The weight (out, in, *kernel) with its smallest entries at zero; as it is where the pattern does not fit it."""
    if weight.numel() == 0 or weight.shape[1] % sparsity.group:
        return weight
    rows = as_rows(weight)
    return from_rows(rows * mask(rows.square(), sparsity), weight.shape)


def among_live_channels(weight: Tensor, prune: Callable[[Tensor], Tensor]) -> Tensor:
    """The weight (out, in, *kernel) pruned as if channels that are all zero were not there: they are gone already."""
    out, inner = _alive(weight, 0), _alive(weight, 1)
    fresh = torch.zeros_like(weight)
    fresh[out.nonzero(), inner.nonzero().squeeze(1)] = prune(weight[out][:, inner])
    return fresh


def _alive(weight: Tensor, axis: int) -> Tensor:
    return weight.detach().transpose(0, axis).flatten(1).any(1)


def solver(moment: Tensor, patches: int) -> Callable[[Tensor, Sparsity], Tensor]:
    """One-shot pruning with second-order reconstruction, of layers whose patches have these second moments.

    `moment` (columns, columns) is the mean of x x^T over so many `patches` x, columns as in `as_rows`. The result takes
    a weight (out, in, *kernel) and prunes it so that what the layer computes on the patches changes least: column by
    column the error that a removed weight makes is taken over by the columns after it, in closed form (Frantar &
    Alistarh, SparseGPT, 2023, after Hassibi & Stork, Optimal brain surgeon, 1993). How many weights each part of the
    columns loses is decided beforehand for the whole layer, by the loss that removing each alone would bring. What
    stays is then solved for once more, all of a row together.
    """
    damped = moment.double()
    damping = (DAMPING + NOISE * len(moment) / patches) * damped.diagonal().mean() + 1e-12
    damped.diagonal().add_(damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True).float()
    alone, whole = inverse.diagonal().float(), damped.float()

    def prune(weight: Tensor, sparsity: Sparsity) -> Tensor:
        rows = as_rows(weight.detach())
        return from_rows(_closest(rows, _sweep(rows, sparsity, upper, alone), whole), weight.shape)

    return prune


def _sweep(rows: Tensor, sparsity: Sparsity, upper: Tensor, alone: Tensor) -> Tensor:
    """(out, columns) pruned; `upper` is the Cholesky factor of the inverse moments, `alone` their diagonal."""
    rows, first = rows.clone(), mask(rows.square() / alone, sparsity)
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
    if n_of_m(sparsity.pattern):
        return mask(scores, sparsity)
    if not planned.any():
        return planned
    return _best_groups(scores, sparsity.group, float(planned.float().mean()))
