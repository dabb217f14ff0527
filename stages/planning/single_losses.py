"""What candidates cost alone, each with the standard error of its mean over images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paredown.stages.products.losses import Losses
from paredown.stages.solvers.problem import Choice, Site

Floats = NDArray[np.float64]

RESOLUTION = 1e-7
"""Nats that the arithmetic of 32 bits can tell: a change that shows none on any image costs this much."""


@dataclass(frozen=True)
class SingleLosses:
    """Site to candidate to `losses` in nats, and to their standard `errors`; both 0 for the unchanged one."""

    losses: Losses
    errors: Losses


def measure_singles(
    sites: Sequence[Site], measure: Callable[[Choice], Floats], told: Callable[[int], None]
) -> SingleLosses:
    """What every candidate costs, of `measure`, which gives a plan's loss on each image; `told` counts sites.

    A candidate's loss is that with the picks that it cannot be without (its site's owner, the first of its needs), less
    what those cost themselves on the same images. Owners come first in `sites`.
    """
    needs = {(site.name, c.name): dict(c.needs[:1]) for site in sites for c in site.candidates}
    alone: dict[tuple[str, str], Floats] = {}
    losses, errors = Losses(), Losses()
    for index, site in enumerate(sites):
        told(index)
        owner = {**dict([site.owner]), **needs[site.owner]} if site.owner else dict[str, str]()
        means, spreads = [0.0], [0.0]
        for candidate in site.candidates[1:]:
            also = needs[site.name, candidate.name]
            whole = measure({**owner, **also, site.name: candidate.name})
            parts = [alone[pick] for pick in (*([site.owner] if site.owner else []), *also.items()) if pick in alone]
            own = whole - sum(parts, np.zeros_like(whole))
            alone[site.name, candidate.name] = own
            means.append(max(float(own.mean()), 0.0))
            spreads.append(standard_error(own))
        if site.ordered:
            means, spreads = pooled(means, spreads)
        names = [candidate.name for candidate in site.candidates]
        losses[site.name], errors[site.name] = (dict(zip(names, values, strict=True)) for values in (means, spreads))
    return SingleLosses(losses, errors)


def standard_error(values: Floats) -> float:
    """Of the mean; 0 for one value alone."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def pooled(means: Sequence[float], errors: Sequence[float]) -> tuple[list[float], list[float]]:
    """Isotonic regression: candidates listed from mild to harsh, none of them less than a milder one. Where a harsher
    one measured less, that is noise, and neighbours share their mean, weighted by what is known of each; so they do
    their errors, as all were measured on the same images. The first one, unchanged, stays as it is."""
    blocks: list[tuple[float, float, float, int]] = []
    for mean, error in zip(means[1:], errors[1:], strict=True):
        blocks.append((mean, error, 1 / max(error, RESOLUTION) ** 2, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, of_a, known_a, many_a), (b, of_b, known_b, many_b) = blocks[-2:]
            both = known_a + known_b
            shared = [(known_a * x + known_b * y) / both for x, y in ((a, b), (of_a, of_b))]
            blocks[-2:] = [(shared[0], shared[1], both, many_a + many_b)]
    spread = [(mean, error) for mean, error, _, many in blocks for _ in range(many)]
    return [means[0], *(mean for mean, _ in spread)], [errors[0], *(error for _, error in spread)]
