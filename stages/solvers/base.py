"""What a solver is. A file in this folder is a solver; its name is its name in the recipe."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from paredown.models.spec import Spec
from paredown.stages.solvers.problem import Choice, Problem, Solution, with_limits


class Solver(Spec):
    """Finds a plan of least predicted loss under the limits. Implementations are frozen options objects."""

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Importable modules that may be missing, and the extra (`pip install "paredown[extra]"`) that brings each."""

    @abstractmethod
    def solve(self, problem: Problem, avoid: tuple[Mapping[str, str], ...] = (), distance: float = 0.1) -> Solution:
        """The best plan that differs from every plan in `avoid` in at least `distance` of the sites.

        Deterministic for the same arguments. Never raises on an infeasible problem: see `Solution`.
        """


def differences_needed(avoided: Choice, distance: float) -> int:
    """In how many of its sites a plan must be left: `distance` (0 to 1) of them, rounded up."""
    return math.ceil(distance * len(avoided) - 1e-9)


def is_far(choice: Choice, avoid: Iterable[Choice], distance: float) -> bool:
    """Whether a plan differs from every avoided one in enough of that one's sites; a missing site differs."""
    return all(
        sum(choice.get(site) != name for site, name in avoided.items()) >= differences_needed(avoided, distance)
        for avoided in avoid
    )


def sweep_budgets(solver: Solver, problem: Problem, budget: str, values: Iterable[float]) -> list[Solution]:
    """The best plan at each limit of one budget, in the order given: points of the Pareto front."""
    return [solver.solve(with_limits(problem, {budget: value})) for value in values]
