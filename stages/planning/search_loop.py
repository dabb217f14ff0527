"""The loop of a search: solve, measure, correct, and solve again until a plan holds the limits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import torch

from paredown.stages.planning.correction import refitted, scaled_to
from paredown.stages.planning.judge import TeacherComparison
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.sites import without_absent_sites
from paredown.stages.products.cost_profile import CostProfile, PlanSample
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.losses import Losses
from paredown.stages.products.plan import MeasuredPlanRecord
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import Problem, Solution, is_plan, loss, with_limits
from paredown.stages.solvers.problem import cost as plan_cost

IMAGES = 32
"""Validation images on which the whole shortlist is judged; each half of it that is left sees twice as many."""

KNOWN = 2
"""Plans of the profile that are measured again, until one of them holds."""

CONFIRM = 3
"""Times as many rounds for a plan that seems to hold; docs/design-notes.md tells what that does to the noise."""


class Options(Protocol):
    """The options of the stage `search`, which says what they mean."""

    @property
    def margin(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def rounds(self) -> int: ...
    @property
    def alternatives(self) -> int: ...
    @property
    def known(self) -> bool: ...


@dataclass(frozen=True)
class MeasuredPlan:
    """A solved plan, what was predicted and what was measured of it, and the profile corrected by it."""

    profile: CostProfile
    solution: Solution
    sample: PlanSample | None
    holds: bool
    error: float = 0.0


class SearchLoop:
    """The loop of solving and measuring, and the record of every plan that was measured."""

    def __init__(
        self, options: Options, meter: PlanMeter, solver: Solver, losses: Losses, limits: Mapping[str, float]
    ) -> None:
        self.options, self.meter, self.solver = options, meter, solver
        self.losses, self.limits, self.measured = losses, limits, list[MeasuredPlanRecord]()
        self.refused = list[Mapping[str, str]]()
        self.profiled = 0

    def problem(self, profile: CostProfile) -> Problem:
        return build_problem(self.meter.space, profile, self.losses, self.limits)

    def settle(self, profile: CostProfile) -> MeasuredPlan:
        """Solve and measure until prediction and measurement agree on a plan that holds the limits.

        Of the plans that hold, the one of least loss is kept; there may be none when the rounds are used up.
        """
        self.profiled = len(profile.samples)
        best = self.known(profile)
        profile, found = best.profile if best else profile, best
        for index in range(self.options.rounds):
            self.meter.state.progress("search: solve and measure", index, self.options.rounds)
            solution = self.solver.solve(self.problem(profile), tuple(self.refused))
            if not solution.feasible:
                return best or found or self._unmeasured(profile)
            if best is not None and solution.loss >= best.solution.loss:
                break
            measured = self.measure(profile, solution)
            if measured is None:
                continue
            found, profile = measured, measured.profile
            if found.holds:
                best = found
                if found.error <= self.options.tolerance:
                    break
        if best:
            return replace(best, profile=profile)
        return found or self._unmeasured(profile)

    def _unmeasured(self, profile: CostProfile) -> MeasuredPlan:
        """The solver's answer without keeping away from plans that could not be run: only that proves anything."""
        return MeasuredPlan(profile, self.solver.solve(self.problem(profile)), None, holds=False)

    def known(self, profile: CostProfile) -> MeasuredPlan | None:
        """The best plan that holds the limits of those that the profile measured, measured again; None without one.

        Only few are tried: one that fails was near the limits, and the next is likely to be as near.
        """
        problem = self.problem(profile)
        whole = {site.name: site.candidates[0].name for site in problem.sites}
        plans = [
            without_absent_sites(problem.sites, {**whole, **s.choice})
            for s in profile.samples
            if self._seems_to_hold(s)
        ]
        allowed = [plan for plan in plans if is_plan(problem, plan)]  # the others go against a pinned site
        for plan in sorted(allowed, key=lambda choice: loss(problem, choice))[: KNOWN * self.options.known]:
            solution = Solution(plan, loss(problem, plan), plan_cost(problem, plan), feasible=True, gap=math.inf)
            found = self.measure(profile, solution)
            if found is not None and found.holds:
                return found
        return None

    def _seems_to_hold(self, sample: PlanSample) -> bool:
        """By what was measured of it; memory was not always."""
        real = sample.costs.named()
        return all(real[name] <= limit for name, limit in self.limits.items() if name in real)

    def measure(self, profile: CostProfile, solution: Solution) -> MeasuredPlan | None:
        """Measure a plan and correct the profile by it; one that seems to hold must hold in a second, longer sample.

        Of many plans measured briefly the lucky one looks best, so the sample that chose a plan cannot prove it. None
        for one that the runtime cannot run, which later plans are kept away from.
        """
        sample = self.meter.attempt(solution.choice, "memory" in self.limits)
        if sample is not None and self._holds(sample):
            sample = self.meter.attempt(solution.choice, "memory" in self.limits, self.meter.rounds * CONFIRM)
        if sample is None:
            self.refused.append(solution.choice)
            return None
        error, holds = abs(solution.costs["latency"] / sample.latency - 1), self._holds(sample)
        samples = (*profile.samples, sample)
        near = len(samples) - self.profiled
        at, space = self.limits.get("latency", sample.latency), self.meter.space
        fixed = scaled_to(space, refitted(space, profile, samples, near, at), sample)
        record = MeasuredPlanRecord(cost_summary(solution.costs), sample.costs, solution.loss, holds)
        self.measured.append(record)
        return MeasuredPlan(fixed, solution, sample, holds, error)

    def _holds(self, sample: PlanSample) -> bool:
        """Within every limit, with half of the margin still free."""
        margin, real = self.options.margin, sample.costs.named()
        return all(real[name] <= limit / (1 - margin) * (1 - margin / 2) for name, limit in self.limits.items())

    def shortlist(self, first: MeasuredPlan) -> MeasuredPlan:
        """Plans far apart can be near in predicted loss: the one that really disturbs the network least wins."""
        found, problem = [first], self.problem(first.profile)
        for index in range(self.options.alternatives):
            self.meter.state.progress("search: alternatives", index, self.options.alternatives)
            solution = self.solver.solve(problem, (*(f.solution.choice for f in found), *self.refused))
            other = self.measure(first.profile, solution) if solution.feasible else None
            found += [other] if other else []
        scores = halve([i for i, f in enumerate(found) if f.holds], self._disturbance(found), IMAGES)
        first_alternative = len(self.measured) - len(found) + 1
        for index, record in enumerate(self.measured[first_alternative:], 1):
            self.measured[first_alternative + index - 1] = replace(record, disturbance=scores.get(index))
        return found[next(reversed(scores))]

    def _disturbance(self, found: Sequence[MeasuredPlan]) -> Callable[[int, int], float]:
        """Of a plan by its place, on so many validation images: KL from the original, in nats."""
        state = self.meter.state
        data = state.open_data()

        @cache
        def judge(images: int) -> TeacherComparison:
            split = data.validation.take(images, state.seed)
            batch = torch.from_numpy(next(data.batches(split, len(split)))[0])
            return TeacherComparison(self.meter.space, batch)

        return lambda index, images: judge(images).loss(found[index].solution.choice)

    def front(self, profile: CostProfile, count: int) -> tuple[CostSummary, ...]:
        """The least loss for a row of latency budgets, the other limits as they are."""
        problem, points = self.problem(profile), list[CostSummary]()
        whole = self.meter.space.predict(profile, {})["latency"]
        others = {name: limit for name, limit in self.limits.items() if name != "latency"}
        for index in range(count):
            self.meter.state.progress("search: Pareto front", index, count)
            budget = whole * (0.2 + 0.8 * index / max(1, count - 1))
            solution = self.solver.solve(with_limits(problem, {**others, "latency": budget}))
            if solution.feasible:
                points.append(replace(cost_summary(solution.costs), loss=solution.loss))
        return tuple(points)


def cost_summary(costs: Mapping[str, float]) -> CostSummary:
    """Latency, size and the peak of the memory steps."""
    peak = max((value for name, value in costs.items() if name.startswith("memory@")), default=0.0)
    return CostSummary(costs["latency"], costs["size"], peak)


def halve(names: Sequence[int], score: Callable[[int, int], float], images: int) -> dict[int, float]:
    """Successive halving to one: all are scored on so many images, the better half on twice as many, and so on.

    The last scores, the smaller the better, in the order in which their owners were dropped: the last one won.
    """
    scores: dict[int, float] = {}
    left = list(names)
    while left:
        found = {name: score(name, images) for name in left}
        left.sort(key=found.__getitem__)
        half = len(left) // 2 if len(left) > 1 else 0
        scores |= {name: found[name] for name in reversed(left[half:])}
        left, images = left[:half], images * 2
    return scores
