"""The solver of `zoo.py`: the plan that changes everything it can, whatever it costs."""

from collections.abc import Mapping

from paredown.stages.planning.sites import without_absent_sites
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import (
    Pick,
    Problem,
    Solution,
    allowed_candidates,
    owners_first,
    plan_cost,
    plan_loss,
    still_needed,
)


class ChangeEverything(Solver):
    """Picks the last candidate of every site that its owner and earlier picks leave."""

    def solve(self, problem: Problem, avoid: tuple[Mapping[str, str], ...] = (), distance: float = 0.1) -> Solution:
        choice: dict[str, str] = {}
        needed: set[Pick] = set()
        for site in owners_first(problem):
            picked = allowed_candidates(site, choice, needed)[-1]
            choice[site.name] = picked.name
            needed |= still_needed(picked, choice)
        choice = without_absent_sites(problem.sites, choice)
        return Solution(choice, plan_loss(problem, choice), plan_cost(problem, choice), feasible=not avoid)


PLUGIN = ChangeEverything
