"""What a cost profile learns from plans that were measured later."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from paredown.models.network.layers import Layer
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.planning.correction import measured_plan, scaled_to, with_samples
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teaching_plans import alternating_plans
from paredown.stages.products.cost_profile import PlanSample
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())


def ms(layer: Layer, form: LayerForm) -> float:
    return (
        0.001 if layer.op == "add" else form.channels_in * form.channels_out / 1000 * (0.4 if form.bits == 8 else 1.0)
    )


def converted(layer: Layer, form: LayerForm) -> float:
    return 0.01


def slower(layer: Layer, form: LayerForm) -> float:
    return 1.5 * ms(layer, form)


def test_a_profile_learns_from_plans_that_are_added(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    plans = list(alternating_plans(space))
    first = tools.profile_by(space, [*space.variants(), plans[0]], ms, converted)
    more = tools.profile_by(space, plans[1:4], slower, converted).samples
    fixed = with_samples(space, first, (*first.samples, *more), chosen=3)
    before, after = space.latency(first, plans[4]).ms, space.latency(fixed, plans[4]).ms
    assert 1.05 * before < after < 1.6 * before
    assert len(fixed.samples) == len(first.samples) + 3
    assert fixed.size_offset == pytest.approx(max(one.size - space.size_mib(one.choice) for one in more))


def test_a_sample_is_met_exactly_and_nothing_else_is_forgotten(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    profile, (one, other, *_) = tools.random_profile(prepared), list(alternating_plans(space))
    sample = replace(profile.samples[-1], choice=one, latency=0.7 * space.latency(profile, one).ms)
    fixed = scaled_to(space, profile, sample)
    assert space.latency(fixed, one).ms == pytest.approx(sample.latency)
    assert space.latency(fixed, other).ms == pytest.approx(0.7 * space.latency(profile, other).ms)
    assert space.predict(fixed, other)["latency"] == pytest.approx(0.7 * space.predict(profile, other)["latency"])
    assert fixed.samples == profile.samples


@dataclass
class Scripted:
    """A meter that measures what a list says, and counts."""

    space: PlanSpace
    sample_of: PlanSample
    latencies: list[float]

    def attempt(self, choice: Choice, memory: bool = False) -> PlanSample:
        return replace(
            self.sample_of, choice=choice, latency=self.latencies.pop(0), peak_memory=50.0 if memory else None
        )

    sample = attempt


@pytest.mark.parametrize(
    ("factors", "taken"), [([1.01, 9.0, 9.0], 1.01), ([2.0, 1.02, 1.03], 1.03), ([2.0, 2.1, 1.9], 2.0)]
)
def test_what_would_teach_much_is_measured_again(
    prepared: PreparedModel, tools: Any, factors: list[float], taken: float
) -> None:
    space = PlanSpace(prepared, BOTH)
    profile = tools.profile_by(space, [*space.variants(), *alternating_plans(space)], ms, converted)
    plan = next(iter(alternating_plans(space)))
    expected = space.latency(profile, plan).ms
    meter: Any = Scripted(space, profile.samples[-1], [factor * expected for factor in factors])
    found = measured_plan(meter, profile, plan, memory=True)
    assert found is not None and found.latency == pytest.approx(taken * expected)
    assert found.peak_memory == 50.0
    assert len(meter.latencies) == (2 if taken == 1.01 else 0)
