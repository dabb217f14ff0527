"""Lets a cost profile learn from plans that were measured after it was made."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import CostProfile, PlanSample
from paredown.stages.solvers.problem import Choice

SURPRISING = 2.0
"""Predicted deviations from which on a measured latency is measured again."""
LEAST = 0.03
"""The smallest deviation, as a share: what a measurement itself may be off by."""


def with_samples(space: PlanSpace, profile: CostProfile, samples: Sequence[PlanSample], chosen: int = 0) -> CostProfile:
    """The profile with these samples in the place of its own; the last `chosen` of them, plans of a solver, set the
    size offset."""
    closest = [sample for sample in samples[-max(chosen, 1) :] if sample.choice] or [samples[-1]]
    offset = max(sample.size - space.size_mib(sample.choice, profile.shares) for sample in closest)
    return replace(profile, size_offset=offset, samples=tuple(samples), latency_scale=1.0)


def scaled_to(space: PlanSpace, profile: CostProfile, sample: PlanSample) -> CostProfile:
    """The profile with all times scaled alike, so that it predicts this sample's latency exactly: where a search
    stands, a bias of all parts is no reason to solve again for a plan that was just measured as too slow."""
    ratio = sample.latency / space.latency(profile, sample.choice).ms
    return replace(profile, latency_scale=profile.latency_scale * ratio)


def measured_plan(meter: PlanMeter, profile: CostProfile, choice: Choice, memory: bool = False) -> PlanSample | None:
    """A plan as measured; None where the runtime cannot run it. What would teach the profile much is measured three
    times, so that one busy or throttled minute does not become a fact: of these the one in the middle."""
    sample = meter.attempt(choice, memory)
    if sample is None or not is_surprising(meter.space, profile, sample):
        return sample
    again = [meter.sample(choice) for _ in range(2)]
    times = [sample.latency, *(one.latency for one in again)]
    middle = next(one for one in (sample, *again) if one.latency == median(times))
    return replace(middle, peak_memory=sample.peak_memory)


def is_surprising(space: PlanSpace, profile: CostProfile, sample: PlanSample) -> bool:
    """Whether a latency is far from what the profile predicts, for what it knows of the plan."""
    expected = space.latency(profile, sample.choice)
    return abs(sample.latency - expected.ms) > SURPRISING * max(expected.deviation, LEAST * expected.ms)
