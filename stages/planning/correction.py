"""Fits the weights of the cost model to whole plans that were measured."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from paredown.stages.planning import latency_model
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import CostProfile, PlanSample

Floats = NDArray[np.float64]

ALIKE = 0.1
"""Relative difference of latencies, as a standard deviation, up to which plans teach something about each other."""


def refitted(
    space: PlanSpace,
    profile: CostProfile,
    samples: Sequence[PlanSample],
    chosen: int = 0,
    at: float | None = None,
) -> CostProfile:
    """The profile with its weights fitted to all samples; the last `chosen` of them, plans of a solver, set the size
    offset.

    `at` ms is where the model must be right: plans of about that latency count more, a solver's up to three times as
    much again, as one linear model is not as right for the slowest as for the fastest plans.
    """
    unit = replace(profile, weights=(1.0,) * len(latency_model.TERMS))
    rows = np.array([space.latency_terms(unit, sample.choice) for sample in samples])
    latencies = np.array([sample.latency for sample in samples])
    closest = [sample for sample in samples[-max(chosen, 1) :] if sample.choice] or [samples[-1]]
    return replace(
        profile,
        weights=latency_model.fit_weights(rows, latencies, _importance(latencies, chosen, at)),
        size_offset=max(sample.size - space.size_mib(sample.choice, profile.shares) for sample in closest),
        samples=tuple(samples),
    )


def _importance(latencies: Floats, chosen: int, at: float | None) -> Floats:
    """(samples,) How much each sample counts in the fit; see `refitted` for `chosen` and `at`."""
    if at is None:
        return np.ones(len(latencies))
    close: Floats = np.exp(-np.square(np.log(latencies / at) / ALIKE) / 2)
    solved = np.arange(len(latencies)) >= len(latencies) - chosen
    return (1 + close) * (1 + 2 * close * solved)


def scaled_to(space: PlanSpace, profile: CostProfile, sample: PlanSample) -> CostProfile:
    """The profile with all weights scaled alike, so that it predicts this sample's latency exactly: where a search
    stands, a bias of the whole fit is no reason to solve again for a plan that was just measured as too slow."""
    ratio = sample.latency / space.predict(profile, sample.choice)["latency"]
    return replace(profile, weights=tuple(weight * ratio for weight in profile.weights))
