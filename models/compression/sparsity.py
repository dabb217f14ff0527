"""Weights with zeros: which patterns there are, and which weights stay in them.

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
        """`block4@0.8` or `2:4`. Raises ValueError for what is no pattern with its level."""
        pattern, _, level = name.partition("@")
        if kept := parsed_n_of_m(pattern):
            return cls(pattern, 1 - kept[0] / kept[1])
        if pattern not in PATTERNS or not 0 < float(level or 0) < 1:
            raise ValueError(
                f"{name!r} is no sparsity; allowed: {', '.join(PATTERNS)} with a level, as block4@0.8, or N:M"
            )
        return cls(pattern, float(level))

    @property
    def group(self) -> int:
        """Neighbouring columns that the pattern looks at together; a row must be a multiple of them."""
        kept = parsed_n_of_m(self.pattern)
        return kept[1] if kept else BLOCK if self.pattern == "block4" else 1


PATTERNS = ("unstructured", "block4")
"""Those that come with a level."""


def parsed_n_of_m(pattern: str) -> tuple[int, int] | None:
    """(2, 4) for `2:4`; None for what is no N:M pattern."""
    match = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", pattern)
    kept, group = (int(match[1]), int(match[2])) if match else (0, 0)
    return (kept, group) if 0 < kept < group else None


def weight_as_rows(weight: Tensor) -> Tensor:
    """(out, in, *kernel) as (out, kernel * in)."""
    return weight.flatten(2).transpose(1, 2).flatten(1) if weight.ndim > 2 else weight


def weight_from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `weight_as_rows`."""
    return rows.reshape(len(rows), -1, shape[1]).transpose(1, 2).reshape(shape)


def magnitude_mask(scores: Tensor, sparsity: Sparsity) -> Tensor:
    """Which of (rows, columns) stay, as booleans: those of the highest scores, in the pattern."""
    if kept := parsed_n_of_m(sparsity.pattern):
        return _best_of_each(scores.reshape(-1, kept[1]), kept[0]).reshape(scores.shape)
    return best_groups(scores, sparsity.group, 1 - sparsity.level)


def _best_of_each(scores: Tensor, count: int) -> Tensor:
    """Of (groups, columns) the `count` highest of each group, as booleans."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.topk(count, dim=1).indices, True)


def best_groups(scores: Tensor, group: int, share: float) -> Tensor:
    """Of (rows, columns) the best `share` of all groups of so many neighbouring columns, one at least, as booleans."""
    grouped = scores.reshape(len(scores), -1, group).sum(-1)
    chosen = torch.zeros(grouped.numel(), dtype=torch.bool, device=scores.device)
    chosen[grouped.flatten().topk(max(1, round(share * grouped.numel()))).indices] = True
    return chosen.reshape(grouped.shape).repeat_interleave(group, dim=1)


def prune_by_magnitude(weight: Tensor, sparsity: Sparsity) -> Tensor:
    """The weight (out, in, *kernel) with its smallest entries at zero; as it is where the pattern does not fit it."""
    if weight.numel() == 0 or weight.shape[1] % sparsity.group:
        return weight
    rows = weight_as_rows(weight)
    return weight_from_rows(rows * magnitude_mask(rows.square(), sparsity), weight.shape)


def prune_live_channels(weight: Tensor, prune: Callable[[Tensor], Tensor]) -> Tensor:
    """The weight (out, in, *kernel) pruned as if channels that are all zero were not there: they are gone already."""
    out, inner = _alive(weight, 0), _alive(weight, 1)
    fresh = torch.zeros_like(weight)
    fresh[out.nonzero(), inner.nonzero().squeeze(1)] = prune(weight[out][:, inner])
    return fresh


def _alive(weight: Tensor, axis: int) -> Tensor:
    return weight.detach().transpose(0, axis).flatten(1).any(1)
