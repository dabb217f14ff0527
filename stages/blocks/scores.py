"""The work of a replacement, and which replacements survive: those that no other beats in error and work at once.

Under limits the cheap ones must survive too, although their error is larger.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paredown.models.network.blocks import Place
from paredown.stages.products.replacement_scores import ReplacementScore


def measure_work(module: nn.Module, place: Place, error: float, steps: int) -> ReplacementScore:
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
    return ReplacementScore(error, macs, elements, sum(p.numel() for p in module.parameters()) / 1e3, steps)


def surviving_names(scores: Mapping[str, ReplacementScore], most: int) -> list[str]:
    """At most `most` names on the front of error and work, from the smallest error to the least work.

    Where the front is longer, it is thinned evenly, its two ends staying.
    """
    unbeaten = [n for n, score in scores.items() if not any(other.beats(score) for other in scores.values())]
    front = sorted(unbeaten, key=lambda name: (scores[name].error, scores[name].macs))
    if len(front) <= most:
        return front
    return [front[round(i * (len(front) - 1) / max(1, most - 1))] for i in range(most)]
