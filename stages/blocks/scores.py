"""Successive halving (Jamieson and Talwalkar, 2016): which candidates deserve more work.

Of replacements for a search under limits those survive that no other one beats in error and in work at once: the cheap
ones must, although their error is larger. Of whole plans only the best one is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.models.network.blocks import Place


@dataclass(frozen=True)
class Score:
    """A candidate after `steps` of training: its relative error on held-out features, and the work of one image.

    `macs` and `elements` (written by its convolutions) are in millions, `parameters` in thousands. Multiply-adds alone
    mislead, so a candidate is beaten only in all of them.
    """

    error: float
    macs: float
    elements: float
    parameters: float
    steps: int

    def beats(self, other: "Score") -> bool:
        pairs = zip(self._merits(), other._merits(), strict=True)
        return all(mine <= theirs for mine, theirs in pairs) and self._merits() != other._merits()

    @property
    def work(self) -> tuple[float, float, float]:
        return self.macs, self.elements, self.parameters

    def _merits(self) -> tuple[float, ...]:
        return self.error, *self.work


def measure(module: nn.Module, place: Place, error: float, steps: int) -> Score:
    """Counts the work of a module at its place."""
    macs, elements = 0.0, 0.0

    def count(conv: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, elements
        assert isinstance(conv, nn.Conv2d)
        macs += output.numel() * conv.weight[0].numel() / 1e6
        elements += output.numel() / 1e6

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        module.eval()(torch.zeros(1, *place.shape_in, device=device))
    for hook in hooks:
        hook.remove()
    return Score(error, macs, elements, sum(p.numel() for p in module.parameters()) / 1e3, steps)


def survivors(scores: Mapping[str, Score], most: int) -> list[str]:
    """At most `most` names on the front of error and work, from the smallest error to the least work.

    Where the front is longer, it is thinned evenly, its two ends staying.
    """
    unbeaten = [n for n, score in scores.items() if not any(other.beats(score) for other in scores.values())]
    front = sorted(unbeaten, key=lambda name: (scores[name].error, scores[name].macs))
    if len(front) <= most:
        return front
    return [front[round(i * (len(front) - 1) / max(1, most - 1))] for i in range(most)]
