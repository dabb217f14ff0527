"""The exact solver: a mixed-integer linear program, solved by HiGHS (Huangfu & Hall 2018) through scipy."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
from pydantic import Field

from paredown.stages.solvers.base import Solver, differences_needed, is_far
from paredown.stages.solvers.decomposition import problem_parts
from paredown.stages.solvers.highs import ConstraintRows, HighsAnswer, LimitSlack, minimise_program
from paredown.stages.solvers.linear_program import Floats, LinearProgram, linearise
from paredown.stages.solvers.problem import (
    TOLERANCE,
    Choice,
    Problem,
    Solution,
    first_plan,
    holds_limits,
    largest_cost,
    limit_bounds,
    limit_excess,
    plan_cost,
    plan_loss,
    validate_problem,
    with_limits,
)

_UNIT = 1e3
"""A typical site's range of loss in the objective, far above HiGHS's absolute tolerances."""
_TIE = 1e-5
"""What all relative costs weigh against a typical site's range of loss."""
_SUM = 1e-4
"""What the summed excess weighs against the largest one."""
_PROOF = 1e-6
"""The relative gap to which the least reachable cost is proved."""


class Milp(Solver):
    """Exact within `gap`."""

    gap: float = Field(default=1e-3, ge=0, description="relative optimality gap to stop at")
    seconds: float = Field(default=60.0, gt=0, description="time limit per program; then its best plan counts")

    def solve(self, problem: Problem, avoid: tuple[Choice, ...] = (), distance: float = 0.1) -> Solution:
        """See `Solver`.

        One program per part of the problem is solved where the limits can be held, else two more, and one per violated
        limit.
        """
        validate_problem(problem)
        began = time.perf_counter()
        choice, gap = self._held(problem, avoid, distance)
        least: dict[str, float] = {}
        if choice is None:
            linear = linearise(problem)
            apart = _apart(linear, avoid, distance)
            over = self._over(linear, problem.limits, apart)
            if over.values is None and avoid:  # No plan differs enough, whatever the limits.
                return replace(self.solve(problem), feasible=False, seconds=time.perf_counter() - began)
            choice, answer = self._nearest(problem, linear, apart, over)
            least, gap = self._least(problem, linear, choice), answer.gap
        return Solution(
            choice=choice,
            loss=plan_loss(problem, choice),
            costs=plan_cost(problem, choice),
            feasible=holds_limits(problem, choice) and is_far(choice, avoid, distance),
            least=least,
            gap=gap,
            seconds=time.perf_counter() - began,
        )

    def _held(
        self, problem: Problem, avoid: tuple[Choice, ...], distance: float
    ) -> tuple[dict[str, str] | None, float]:
        """The best of all parts' plans that hold the limits (None: there is none), and the gap that it is proved to."""
        plans, gap, share = list[dict[str, str]](), 0.0, problem_parts(problem)
        for part in share:
            began, linear = time.perf_counter(), linearise(part)
            answer = self._best(linear, part.limits, _apart(linear, avoid, distance), self.seconds / len(share))
            choice = _plan(linear, answer)
            if choice is not None and holds_limits(part, choice) and is_far(choice, avoid, distance):
                plans.append(choice)
                gap = max(gap, answer.gap)
            elif time.perf_counter() - began >= self.seconds / len(share):
                gap = math.inf  # The time limit struck: there may be a plan.
        return min(plans, key=lambda plan: _rank(problem, plan), default=None), gap

    def _best(
        self, linear: LinearProgram, limits: Mapping[str, float], apart: ConstraintRows, seconds: float
    ) -> HighsAnswer:
        """Least loss under the limits; of equally good plans, the cheaper one."""
        rows = [_limit_rows(linear, limit, value) for limit, value in limits.items()]
        return minimise_program(linear, _objective(linear), [*rows, apart], self.gap, seconds)

    def _over(self, linear: LinearProgram, limits: Mapping[str, float], apart: ConstraintRows) -> HighsAnswer:
        """Least largest excess over the limits, then the least sum of them, whatever the loss."""
        rows = [
            replace(_limit_rows(linear, limit, value), slack=number)
            for number, (limit, value) in enumerate(limits.items())
        ]
        slack = LimitSlack(weights=(*[_SUM] * len(limits), 1.0), largest=len(limits))
        return minimise_program(linear, np.zeros_like(linear.loss), [*rows, apart], self.gap, self.seconds, slack)

    def _nearest(
        self, problem: Problem, linear: LinearProgram, apart: ConstraintRows, over: HighsAnswer
    ) -> tuple[dict[str, str], HighsAnswer]:
        """Among the plans with no more excess than the one in `over`, the one with the least loss."""
        nearest = _plan(linear, over)
        if nearest is None or holds_limits(problem, nearest):  # The time limit struck: nothing is proved.
            return nearest or first_plan(problem), HighsAnswer(None)
        ratios = limit_excess(problem, nearest)
        limits = {limit: value * (1 + ratios[limit]) for limit, value in problem.limits.items()}
        answer = self._best(linear, limits, apart, self.seconds)
        choice = _plan(linear, answer)
        if choice is None or not holds_limits(with_limits(problem, limits), choice):
            return nearest, HighsAnswer(None)
        return choice, max(answer, over, key=lambda each: each.gap)

    def _least(self, problem: Problem, linear: LinearProgram, choice: Choice) -> dict[str, float]:
        """Per limit that the plan violates, the least cost of any plan (a lower bound after a time limit)."""
        least: dict[str, float] = {}
        for limit in (limit for limit, over in limit_excess(problem, choice).items() if over > TOLERANCE):
            rows = replace(_limit_rows(linear, limit, problem.limits[limit], prune=False), slack=0)
            slack = LimitSlack(weights=(1.0,), lower=-math.inf)
            answer = minimise_program(linear, np.zeros_like(linear.loss), [rows], _PROOF, self.seconds, slack)
            ratio = answer.objective if answer.gap <= 2 * _PROOF else answer.bound
            if math.isfinite(ratio):
                least[limit] = (1 + ratio) * problem.limits[limit]
        return least


def _rank(problem: Problem, plan: Choice) -> tuple[float, float]:
    """Loss, then how far the limits are used up."""
    costs = plan_cost(problem, plan)
    return plan_loss(problem, plan), sum(largest_cost(costs, limit) / value for limit, value in problem.limits.items())


def _plan(linear: LinearProgram, answer: HighsAnswer) -> dict[str, str] | None:
    if answer.values is None:
        return None
    return {site: name for (site, name), number in linear.column.items() if answer.values[number] > 0.5}


def _objective(linear: LinearProgram) -> Floats:
    """(n,) the loss, and far under it the costs: each budget family relative to the range it can take."""
    starts = np.append(linear.groups, linear.loss.size)
    ranges = np.array([np.ptp(linear.loss[a:b]) for a, b in pairwise(starts)])
    typical = float(np.median(ranges[ranges > 0])) if ranges.any() else 1.0
    families = [budget.split("@")[0] for budget in linear.cost_names]
    spans = linear.ceiling(linear.costs) + linear.ceiling(-linear.costs)
    shares = np.array([1 / families.count(name) for name in families])
    weights = np.divide(shares, spans, out=np.zeros_like(spans), where=spans > 0)
    tie: Floats = weights @ linear.costs
    return _UNIT * (linear.loss / typical + _TIE * tie)


def _limit_rows(linear: LinearProgram, limit: str, value: float, prune: bool = True) -> ConstraintRows:
    """Relative cost minus one, at most 0, of every budget that a limit bounds.

    Budgets under another one in every plan are left out, and with `prune` those always under the limit too.
    """
    chosen = [number for number, budget in enumerate(linear.cost_names) if limit_bounds(limit, budget)]
    costs, fixed = linear.costs[chosen], linear.fixed[chosen]
    if prune:
        risky = linear.ceiling(costs) + fixed > value
        costs, fixed = costs[risky], fixed[risky]
    kept = _undominated(linear, costs, fixed)
    return ConstraintRows(costs[kept] / value, 1 - fixed[kept] / value)


def _undominated(linear: LinearProgram, costs: Floats, fixed: Floats) -> list[int]:
    """The rows that no other kept row is at least as large as in every plan."""
    kept = list(range(len(costs)))
    for row in range(len(costs)):
        others = [other for other in kept if other != row]
        above = linear.ceiling(costs[row] - costs[others]) + fixed[row] - fixed[others] <= 0
        if above.any():
            kept = others
    return kept


def _apart(linear: LinearProgram, avoid: tuple[Choice, ...], distance: float) -> ConstraintRows:
    """Each avoided plan shares at most so many picks with the answer."""
    shared = np.zeros((len(avoid), linear.loss.size))
    for row, plan in enumerate(avoid):
        shared[row, [linear.column[pick] for pick in plan.items() if pick in linear.column]] = 1.0
    return ConstraintRows(shared, np.array([float(len(plan) - differences_needed(plan, distance)) for plan in avoid]))


PLUGIN = Milp
