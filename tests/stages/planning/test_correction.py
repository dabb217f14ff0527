"""What the cost model learns from measured plans, and where."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning import latency_model
from paredown.stages.planning.correction import refitted, scaled_to
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import random_choice
from paredown.stages.products.cost_profile import CostProfile, PlanSample
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())


@pytest.fixture
def profile(prepared: PreparedModel, tools: Any) -> CostProfile:
    return replace(tools.random_profile(prepared), weights=(1.0,) * len(latency_model.TERMS), samples=())


def plans(prepared: PreparedModel, count: int) -> list[Choice]:
    rng = np.random.default_rng(0)
    return [random_choice(PlanSpace(prepared, BOTH).sites, rng) for _ in range(count)]


def predicted(prepared: PreparedModel, profile: CostProfile, choice: Choice) -> float:
    return PlanSpace(prepared, BOTH).predict(profile, choice)["latency"]


def sampled(prepared: PreparedModel, profile: CostProfile, choice: Choice, factor: float) -> PlanSample:
    return PlanSample(
        choice, factor * predicted(prepared, profile, choice), PlanSpace(prepared, BOTH).size_mib(choice) + 0.25
    )


def test_a_model_learns_what_all_plans_say(prepared: PreparedModel, profile: CostProfile) -> None:
    many = plans(prepared, 12)
    fixed = refitted(PlanSpace(prepared, BOTH), profile, [sampled(prepared, profile, plan, 1.3) for plan in many])
    for plan in many:
        assert predicted(prepared, fixed, plan) == pytest.approx(1.3 * predicted(prepared, profile, plan), rel=0.03)
    assert fixed.size_offset == pytest.approx(0.25)
    assert len(fixed.samples) == 12


def test_where_plans_disagree_those_near_the_wanted_latency_are_believed(
    prepared: PreparedModel, profile: CostProfile
) -> None:
    """Fast plans take longer than predicted, slow ones less: no linear model is right for both."""
    many = sorted(plans(prepared, 40), key=lambda plan: predicted(prepared, profile, plan))
    fast, slow = many[:5], many[-5:]
    samples = [sampled(prepared, profile, p, 1.2) for p in fast] + [sampled(prepared, profile, p, 0.8) for p in slow]
    everywhere = refitted(PlanSpace(prepared, BOTH), profile, samples, len(samples))
    for group, factor in ((fast, 1.2), (slow, 0.8)):
        at = factor * predicted(prepared, profile, group[2])
        there = refitted(PlanSpace(prepared, BOTH), profile, samples, len(samples), at)
        wrong = [
            np.mean([abs(predicted(prepared, p, c) / (factor * predicted(prepared, profile, c)) - 1) for c in group])
            for p in (there, everywhere)
        ]
        assert wrong[0] < 0.7 * wrong[1]


def test_a_sample_is_met_exactly_and_nothing_else_is_forgotten(prepared: PreparedModel, profile: CostProfile) -> None:
    one, other = plans(prepared, 2)
    sample = sampled(prepared, profile, one, 0.7)
    fixed = scaled_to(PlanSpace(prepared, BOTH), replace(profile, samples=(sample,)), sample)
    assert predicted(prepared, fixed, one) == pytest.approx(sample.latency)
    assert predicted(prepared, fixed, other) == pytest.approx(0.7 * predicted(prepared, profile, other))
    assert fixed.samples == (sample,)
