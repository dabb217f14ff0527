"""How losses of single candidates add up in whole plans: coefficients fitted to plans that were really evaluated.

The idea is SPDY's (Frantar and Alistarh, 2022). First one coefficient per transform and a common power, then one
coefficient per site, held near its transform's by a ridge. Few plans cannot determine many sites, so the strength of
the ridge is what predicts plans best that were left out of the fit; infinite strength, no coefficients per site at
all, is among the choices. The power bends the sum: changes that are harmless alone are less so together. It changes no
order of plans, so a solver that finds the least sum is as exact as without it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from paredown.stages.products.losses import Losses
from paredown.stages.solvers.problem import Choice, Site

Floats = NDArray[np.float64]

SMALL = 1e-4
"""Nats under which a loss is noise."""
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
LEAST, MOST = 0.25, 4.0
"""What a coefficient may be."""
USUAL = math.log(2)
"""The standard deviation of a coefficient's logarithm that is expected before any plan is seen: few noisy plans must
not drive one to its bound."""
POWERS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
FEW = 3
"""Kinds of change up to which the grid is fine: it has as many dimensions."""
GAIN = 0.95
"""Coefficients per site must bring the squared error of left-out plans under this share of what it is without."""
BEND = 0.8
"""The same of a power: with some thirty plans, less of a gain is noise."""


@dataclass(frozen=True)
class LossFit:
    """Coefficients by transform and by site, and the `power` of their sum that is the loss of a plan in nats.

    Of plans that sites' coefficients, not those of transforms, were fitted without: `error` is the mean squared
    relative error, `spread` the standard deviation of the logarithm of measured over predicted, and `spearman` the
    rank correlation of both (None where there is none). None of them lost more than `most` nats.
    """

    kinds: Mapping[str, float]
    sites: Mapping[str, float]
    error: float
    spearman: float | None
    power: float = 1.0
    spread: float | None = None
    most: float | None = None


def fit_loss_model(
    sites: Sequence[Site], singles: Losses, plans: Sequence[Choice], measured: Sequence[float]
) -> LossFit:
    """Coefficients that make summed losses explain whole plans; all 1 where there are less than four plans."""
    names = [site.name for site in sites]
    own = [site.transform for site in sites]
    kinds = sorted(set(own))
    if len(plans) < 4:
        return LossFit(dict.fromkeys(kinds, 1.0), dict.fromkeys(names, 1.0), float("inf"), None)
    losses, real = _losses(names, singles, plans), np.array(measured, dtype=np.float64)
    by_kind, power = _fit_kinds(np.array([losses[:, [kind == k for kind in own]].sum(1) for k in kinds]).T, real)
    whole = np.array([by_kind[kinds.index(kind)] for kind in own])
    factors, left_out = _fit_sites(losses * whole, real ** (1 / power))
    predicted = np.maximum(left_out, 0) ** power
    return LossFit(
        kinds=dict(zip(kinds, map(float, by_kind), strict=True)),
        sites=dict(zip(names, map(float, np.clip(whole * factors, LEAST, MOST)), strict=True)),
        error=float(np.square((predicted - real) / (real + SMALL)).mean()),
        spearman=float(spearmanr(predicted, real).statistic) if np.ptp(predicted) > 0 and np.ptp(real) > 0 else None,
        power=power,
        spread=float(np.sqrt(np.square(np.log((real + SMALL) / (predicted + SMALL))).mean())),
        most=float(real.max()),
    )


def _losses(names: Sequence[str], singles: Losses, plans: Sequence[Choice]) -> Floats:
    """(plans, sites) of what each plan's picks cost alone."""
    return np.array([[singles[n][plan[n]] if n in plan else 0.0 for n in names] for plan in plans], dtype=np.float64)


def _fit_kinds(rows: Floats, measured: Floats) -> tuple[Floats, float]:
    """One coefficient per column and the power of their sum, on a grid, in relative error; where the plans say nothing
    they stay at 1."""
    steps = np.geomspace(LEAST, MOST, 17 if rows.shape[1] <= FEW else 7)
    grid = np.stack(np.meshgrid(*[steps] * rows.shape[1]), -1).reshape(-1, rows.shape[1])
    sums, logs = grid @ rows.T, np.log(measured + SMALL)
    unusual = np.square(np.log(grid) / USUAL).sum(1)[:, None] / len(measured)
    fits: dict[float, Floats] = {}
    for power in POWERS:
        errors = np.square(np.log(sums**power + SMALL) - logs)
        fits[power] = errors + (errors.mean(1).min() + 1e-6) * unusual
    power = min(POWERS, key=lambda one: (BEND if one == 1 else 1) * _left_out(fits[one]))
    return grid[fits[power].mean(1).argmin()], power


def _left_out(errors: Floats) -> float:
    """The mean error of plans of which each is predicted by that row of `errors` (fits, plans) which is best for the
    others."""
    totals = errors.sum(1)
    best = [(totals - column).argmin() for column in errors.T]
    return float(np.mean([errors[row, plan] for plan, row in enumerate(best)]))


def _fit_sites(rows: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """A factor per column, and what is predicted for each plan by the others.

    Kernel ridge regression of what is left over, whose leave-one-out residuals have a closed form.
    """
    scale = measured + SMALL
    scaled = rows / scale[:, None]
    rest = measured / scale - scaled.sum(1)
    best, residual, factors = np.square(rest).mean() * GAIN, rest, np.ones(rows.shape[1])
    for ridge in RIDGES:
        inverse = np.linalg.inv(scaled @ scaled.T + ridge * np.eye(len(rows)))
        left_out = (inverse @ rest) / inverse.diagonal()
        if np.square(left_out).mean() < best:
            best, residual = np.square(left_out).mean(), left_out
            factors = 1 + scaled.T @ inverse @ rest
    return factors, measured - residual * scale
