"""The baseline that another solver has to beat: random plans, repaired one site at a time."""

import math
import time
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

import numpy as np
from pydantic import Field

from paredown.stages.solvers.base import Solver, is_far
from paredown.stages.solvers.problem import (
    TOLERANCE,
    Candidate,
    Choice,
    Pick,
    Problem,
    Site,
    Solution,
    allowed_candidates,
    holds_limits,
    limit_excess,
    owners_first,
    plan_cost,
    plan_loss,
    site_exists,
    still_needed,
    validate_problem,
)

Score = tuple[bool, float, float]
"""(too close to an avoided plan, largest relative excess, loss): the smallest wins."""


class RandomSearch(Solver):
    """Proves nothing: `gap` is infinite and `least` empty."""

    evaluations: int = Field(default=1000, ge=1, description="plans whose costs are looked up")
    repairs: int = Field(default=50, ge=0, description="changes tried on a plan that misses a limit")
    seed: int = Field(default=0, ge=0, description="seed of the search")

    def solve(self, problem: Problem, avoid: tuple[Choice, ...] = (), distance: float = 0.1) -> Solution:
        """See `Solver`."""
        validate_problem(problem)
        began = time.perf_counter()
        tried = islice(self._trails(problem, avoid, distance), self.evaluations)
        _, choice = min(tried, key=itemgetter(0))
        return Solution(
            choice=choice,
            loss=plan_loss(problem, choice),
            costs=plan_cost(problem, choice),
            feasible=holds_limits(problem, choice) and is_far(choice, avoid, distance),
            gap=math.inf,
            seconds=time.perf_counter() - began,
        )

    def _trails(self, problem: Problem, avoid: tuple[Choice, ...], distance: float) -> Iterator[tuple[Score, Choice]]:
        """Endless: a random plan, changes that keep or lower its excess until it holds, the next plan."""
        rng = np.random.default_rng(self.seed)
        order = owners_first(problem)
        while True:
            plan = _draw(order, {}, rng)
            score = _score(problem, plan, avoid, distance)
            yield score, plan
            for _ in range(self.repairs):
                if score[:2] == (False, 0.0):
                    break
                changed = _change(order, plan, rng)
                new_score = _score(problem, changed, avoid, distance)
                yield new_score, changed
                if new_score[:2] <= score[:2]:
                    plan, score = changed, new_score


def _score(problem: Problem, plan: Choice, avoid: tuple[Choice, ...], distance: float) -> Score:
    over = max(limit_excess(problem, plan).values(), default=0.0)
    return not is_far(plan, avoid, distance), over if over > TOLERANCE else 0.0, plan_loss(problem, plan)


def _draw(order: tuple[Site, ...], kept: Choice, rng: np.random.Generator) -> dict[str, str]:
    """A plan that agrees with `kept` where it can, and is random elsewhere."""
    plan: dict[str, str] = {}
    needed: set[Pick] = set()
    for site in order:
        if site_exists(site, plan):
            free = allowed_candidates(site, plan, needed)
            picked = next((c for c in free if c.name == kept.get(site.name)), None) or _any(free, rng)
            plan[site.name] = picked.name
            needed |= still_needed(picked, plan)
    return plan


def _any(free: tuple[Candidate, ...], rng: np.random.Generator) -> Candidate:
    return free[int(rng.integers(len(free)))]


def _change(order: tuple[Site, ...], plan: Choice, rng: np.random.Generator) -> dict[str, str]:
    """The plan with one of its sites drawn anew."""
    present = [site for site in order if site.name in plan]
    site = present[int(rng.integers(len(present)))]
    return _draw(order, {**plan, site.name: _any(site.candidates, rng).name}, rng)


PLUGIN = RandomSearch
