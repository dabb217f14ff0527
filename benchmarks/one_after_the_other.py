"""A solver that decides as people do without a joint search: one kind of change at a time.

It sees the same problem, costs and losses as the exact solver does, so that plans differ in nothing but the way in
which they were chosen.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import (
    BorderCharge,
    Choice,
    CostFactor,
    Problem,
    Site,
    Solution,
    first_plan,
    holds_limits,
    owners_first,
    plan_cost,
    plan_loss,
)

Part = TypeVar("Part", CostFactor, BorderCharge)

STEPS = 10
"""Halvings of the interval that holds the budget of the first of two decisions."""


class OneAfterTheOther(Solver):
    """`without_blocks`, `quantize` and `narrow` are exact over these kinds alone. `narrow_then_quantize` narrows as the
    exact solver does for an fp32 budget that is just tight enough for the limits to hold once all is int8; `uniform`
    keeps one share of all channels everywhere, and then makes all int8; `uniform_sparsity` makes all int8, and all
    layers but the classifier as sparse as each other, no more than the limits want."""

    method: Literal["without_blocks", "quantize", "narrow", "narrow_then_quantize", "uniform", "uniform_sparsity"] = (
        Field("narrow_then_quantize", description="what is decided, and in which order")
    )

    def solve(self, problem: Problem, avoid: tuple[Choice, ...] = (), distance: float = 0.1) -> Solution:
        """See `Solver`; two-step methods take no heed of `avoid`."""
        match self.method:
            case "without_blocks":
                return _whole(problem, Milp().solve(only(problem, ("narrow", "quantize")), avoid, distance))
            case "quantize" | "narrow":
                return _whole(problem, Milp().solve(only(problem, (self.method,)), avoid, distance))
            case "uniform":
                return _bisect(problem, lambda share: {**_uniform(problem, share), **_all_int8(problem)})
            case "uniform_sparsity":
                return _mildest(problem)
            case "narrow_then_quantize":
                return _bisect(problem, _narrowed(problem))


def only(problem: Problem, kinds: Collection[str]) -> Problem:
    """The problem in which sites of other kinds keep their first candidate."""
    left: dict[str, Site] = {}
    for site in owners_first(problem):
        if site.owner is None or (site.owner[0] in left and site.owner[1] in _names(left[site.owner[0]])):
            left[site.name] = site if site.transform in kinds else replace(site, candidates=site.candidates[:1])
    allowed = {name: _names(site) for name, site in left.items()}
    factors = tuple(_cut(factor, allowed) for factor in problem.factors if set(factor.sites) <= set(left))
    charges = tuple(_possible(charge, allowed) for charge in problem.charges if set(charge.sites) <= set(left))
    return replace(problem, sites=tuple(left.values()), factors=factors, charges=charges)


def _possible(charge: BorderCharge, allowed: Mapping[str, set[str]]) -> BorderCharge:
    """The charge without occasions that can no longer come true."""
    cut = [[frozenset(p for p in term if p[1] in allowed.get(p[0], ())) for term in o] for o in charge.when]
    return replace(_cut(charge, allowed), when=tuple(tuple(occasion) for occasion in cut if all(occasion)))


def _names(site: Site) -> set[str]:
    return {candidate.name for candidate in site.candidates}


def _cut(factor: Part, allowed: Mapping[str, set[str]]) -> Part:
    def fits(names: tuple[str, ...]) -> bool:
        return all(name in allowed[site] for site, name in zip(factor.sites, names, strict=True))

    return replace(factor, table={names: costs for names, costs in factor.table.items() if fits(names)})


def _narrowed(problem: Problem) -> Callable[[float], Choice]:
    """Share of the original's fp32 latency to the plan that narrows to it, and then makes all int8."""
    narrow = only(problem, ("narrow",))
    whole = plan_cost(narrow, first_plan(narrow))["latency"]

    def plan(share: float) -> Choice:
        found = Milp().solve(replace(narrow, limits={"latency": share * whole}))
        return {**found.choice, **_all_int8(problem)}

    return plan


def _uniform(problem: Problem, share: float) -> Choice:
    plan = first_plan(problem)
    for site in problem.sites:
        if site.transform == "narrow" and site.name in plan:
            widths = [int(candidate.name) for candidate in site.candidates]
            plan[site.name] = str(min(widths, key=lambda width: abs(width - share * widths[0])))
    return plan


def _mildest(problem: Problem) -> Solution:
    """The lowest sparsity for all that holds the limits, the highest where none does."""
    *sites, _ = (site for site in problem.sites if site.transform == "sparsify")  # the last one is the classifier
    levels = sites[0].candidates[1:]
    plans = [
        first_plan(problem) | {s.name: c.name for s in sites if c.name in _names(s)} | _all_int8(problem)
        for c in levels
    ]
    best = next((plan for plan in plans if holds_limits(problem, plan)), plans[-1])
    return _solution(problem, best, feasible=holds_limits(problem, best))


def _all_int8(problem: Problem) -> dict[str, str]:
    there = first_plan(problem)
    free = (site for site in problem.sites if site.transform == "quantize" and "int8" in _names(site))
    return {site.name: "int8" for site in free if site.name in there}


def _bisect(problem: Problem, plan: Callable[[float], Choice]) -> Solution:
    """The plan of the largest share (0.05 to 1) that holds the limits; that of the smallest where none does."""
    low, high = 0.05, 1.0
    best = plan(low)
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = plan(middle)
        low, high, best = (middle, high, found) if holds_limits(problem, found) else (low, middle, best)
    return _solution(problem, best, feasible=holds_limits(problem, best))


def _whole(problem: Problem, found: Solution) -> Solution:
    """The same plan, told in terms of the whole problem."""
    return _solution(problem, found.choice, found.feasible, found.gap)


def _solution(problem: Problem, choice: Choice, feasible: bool, gap: float = np.inf) -> Solution:
    return Solution(choice, plan_loss(problem, choice), plan_cost(problem, choice), feasible, gap=gap)


PLUGIN = OneAfterTheOther
