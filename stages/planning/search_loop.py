"""The loop of a search: solve, measure, correct, and solve again until a plan holds the limits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from paredown.stages.planning.correction import measured_plan, scaled_to, with_samples
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.problem_builder import CAUTION, build_problem
from paredown.stages.planning.shortlist import disturbances
from paredown.stages.planning.sites import without_absent_sites
from paredown.stages.products.cost_profile import CostProfile, PlanSample
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.losses import Losses
from paredown.stages.products.plan import MeasuredPlanRecord
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import Choice, Problem, Solution, is_plan, plan_loss, with_limits
from paredown.stages.solvers.problem import plan_cost as plan_cost

TRIED = 2
"""Plans of the profile that are measured again, until one of them holds."""

CONFIRM = 3
"""Times as many rounds for a plan that seems to hold; docs/design-notes.md tells what that does to the noise."""


@dataclass(frozen=True)
class SearchOptions:
    """The options of the loop, as the stage `search` describes them; `from_profile` is its `known`."""

    margin: float
    tolerance: float
    rounds: int
    alternatives: int
    from_profile: bool


@dataclass(frozen=True)
class MeasuredPlan:
    """A solved plan, what was measured of it, and the profile corrected by that.

    `error` is the relative error of the predicted latency. `sample` and `record` are None for a plan that was solved
    but never measured.
    """

    profile: CostProfile
    solution: Solution
    sample: PlanSample | None = None
    holds: bool = False
    error: float = 0.0
    record: MeasuredPlanRecord | None = None


class SearchLoop:
    """The loop of solving and measuring.

    `records` has every plan that was measured, in order; `refused` those that the runtime could not run, which later
    plans are kept away from.
    """

    def __init__(
        self, options: SearchOptions, meter: PlanMeter, solver: Solver, losses: Losses, limits: Mapping[str, float]
    ) -> None:
        self.options, self.meter, self.solver = options, meter, solver
        self.losses, self.limits = losses, limits
        self.records, self.refused = list[MeasuredPlanRecord](), list[Choice]()
        self.profiled = 0

    def problem(self, profile: CostProfile, caution: float = 0.0) -> Problem:
        """What is solved, with the costs that a profile predicts, and so many deviations of each on top of it."""
        return build_problem(self.meter.space, profile, self.losses, self.limits, caution)

    def _solve(self, profile: CostProfile, avoid: Sequence[Choice] = ()) -> Solution:
        """The solver's answer with caution, or without where there is none under the limits; its costs are what is
        expected. It keeps away from plans in `avoid`, and from those that could not be run."""
        away = (*avoid, *self.refused)
        solution = self.solver.solve(self.problem(profile, CAUTION), away)
        if not solution.feasible:
            solution = self.solver.solve(self.problem(profile), away)
        return self._as_expected(profile, solution)

    def _as_expected(self, profile: CostProfile, solution: Solution) -> Solution:
        """The solution with the latency that is expected of the whole plan; its other costs are what a solver sees."""
        latency = self.meter.space.latency(profile, solution.choice).ms
        return replace(solution, costs={**solution.costs, "latency": latency})

    def run(self, profile: CostProfile) -> MeasuredPlan:
        """Solve and measure until prediction and measurement agree on a plan that holds the limits.

        Of the plans that hold, the one of least loss is kept; there may be none when the rounds are used up.
        """
        self.profiled = len(profile.samples)
        best = last = self.try_profiled_plans(profile)
        profile = best.profile if best else profile
        for index in range(self.options.rounds):
            self.meter.state.progress("search: solve and measure", index, self.options.rounds)
            solution = self._solve(profile)
            if not solution.feasible:
                return best or last or self._unmeasured(profile)
            if best is not None and solution.loss >= best.solution.loss:
                break
            measured = self._measure_and_record(profile, solution)
            if measured is None:
                continue
            last, profile = measured, measured.profile
            if measured.holds:
                best = measured
                if measured.error <= self.options.tolerance:
                    break
        if best:
            return replace(best, profile=profile)
        return last or self._unmeasured(profile)

    def _unmeasured(self, profile: CostProfile) -> MeasuredPlan:
        """The solver's answer without keeping away from plans that could not be run: only that proves anything."""
        return MeasuredPlan(profile, self.solver.solve(self.problem(profile)))

    def try_profiled_plans(self, profile: CostProfile) -> MeasuredPlan | None:
        """The best plan that holds the limits of those that the profile measured, measured again; None without one.

        Only few are tried: one that fails was near the limits, and the next is likely to be as near.
        """
        if not self.options.from_profile:
            return None
        problem = self.problem(profile)
        plans = sorted(self._profiled_plans(profile, problem), key=lambda plan: plan_loss(problem, plan))
        for plan in plans[:TRIED]:
            known = Solution(plan, plan_loss(problem, plan), plan_cost(problem, plan), feasible=True, gap=math.inf)
            solution = self._as_expected(profile, known)
            measured = self._measure_and_record(profile, solution)
            if measured is not None and measured.holds:
                return measured
        return None

    def _profiled_plans(self, profile: CostProfile, problem: Problem) -> Iterator[Choice]:
        """The profile's plans that seem to hold the limits, with a candidate for every site; those that go against a
        pinned site are left out."""
        unchanged = {site.name: site.candidates[0].name for site in problem.sites}
        for sample in profile.samples:
            plan = without_absent_sites(problem.sites, {**unchanged, **sample.choice})
            if self._seems_to_hold(sample) and is_plan(problem, plan):
                yield plan

    def _seems_to_hold(self, sample: PlanSample) -> bool:
        """Whether no cost that was measured of it is over its limit; memory was not always measured."""
        real = sample.costs.named()
        return all(real[name] <= limit for name, limit in self.limits.items() if name in real)

    def _measure_and_record(self, profile: CostProfile, solution: Solution) -> MeasuredPlan | None:
        measured = self.measure(profile, solution)
        self.records += [measured.record] if measured and measured.record else []
        return measured

    def measure(self, profile: CostProfile, solution: Solution) -> MeasuredPlan | None:
        """Measure a plan and correct the profile by it; one that seems to hold must hold in a second, longer sample.

        Of many plans measured briefly the lucky one looks best, so the sample that chose a plan cannot prove it. None
        for one that the runtime cannot run, which goes to `refused`.
        """
        sample = measured_plan(self.meter, profile, solution.choice, "memory" in self.limits)
        if sample is not None and self._holds(sample):
            sample = self.meter.attempt(solution.choice, "memory" in self.limits, self.meter.rounds * CONFIRM)
        if sample is None:
            self.refused.append(solution.choice)
            return None
        error, holds = abs(solution.costs["latency"] / sample.latency - 1), self._holds(sample)
        record = MeasuredPlanRecord(cost_summary(solution.costs), sample.costs, solution.loss, holds)
        return MeasuredPlan(self._corrected(profile, sample), solution, sample, holds, error, record)

    def _corrected(self, profile: CostProfile, sample: PlanSample) -> CostProfile:
        """The profile with the sample, and exact for it."""
        samples, space = (*profile.samples, sample), self.meter.space
        return scaled_to(space, with_samples(space, profile, samples, len(samples) - self.profiled), sample)

    def _holds(self, sample: PlanSample) -> bool:
        """Within every limit, with half of the margin still free."""
        margin, real = self.options.margin, sample.costs.named()
        return all(real[name] <= limit / (1 - margin) * (1 - margin / 2) for name, limit in self.limits.items())

    def shortlist(self, first: MeasuredPlan) -> MeasuredPlan:
        """`first` or one of the `alternatives`, which are solved and measured now: the one that disturbs the network's
        answers least on validation images, as plans far apart can be near in predicted loss."""
        plans = [first]
        for index in range(self.options.alternatives):
            self.meter.state.progress("search: alternatives", index, self.options.alternatives)
            solution = self._solve(first.profile, [plan.solution.choice for plan in plans])
            alternative = self.measure(first.profile, solution) if solution.feasible else None
            plans += [alternative] if alternative else []
        holding = {number: plan.solution.choice for number, plan in enumerate(plans) if plan.holds}
        scores = disturbances(self.meter.space, self.meter.state, holding)
        for number, plan in enumerate(plans[1:], 1):
            self.records += [replace(plan.record, disturbance=scores.get(number))] if plan.record else []
        *_, best = scores
        return plans[best]

    def front(self, profile: CostProfile, count: int) -> tuple[CostSummary, ...]:
        """Predicted costs and loss of the best plan at each of `count` latency limits, from a fifth of the unchanged
        network's up to it, the other limits as they are."""
        problem, solutions = self.problem(profile), list[Solution]()
        whole = self.meter.space.predict(profile, {})["latency"]
        others = {name: limit for name, limit in self.limits.items() if name != "latency"}
        for index in range(count):
            self.meter.state.progress("search: Pareto front", index, count)
            budget = whole * (0.2 + 0.8 * index / max(1, count - 1))
            solution = self.solver.solve(with_limits(problem, {**others, "latency": budget}))
            if solution.feasible:
                solutions.append(self._as_expected(profile, solution))
        return tuple(replace(cost_summary(one.costs), loss=one.loss) for one in undominated(solutions))


def undominated(solutions: Sequence[Solution]) -> list[Solution]:
    """Those that lose less than every faster one, from the fastest to the slowest."""
    kept = list[Solution]()
    for one in sorted(solutions, key=lambda one: (one.costs["latency"], one.loss)):
        if not kept or one.loss < kept[-1].loss:
            kept.append(one)
    return kept


def cost_summary(costs: Mapping[str, float]) -> CostSummary:
    """Latency, size and the peak of the memory steps."""
    peak = max((value for name, value in costs.items() if name.startswith("memory@")), default=0.0)
    return CostSummary(costs["latency"], costs["size"], peak)
