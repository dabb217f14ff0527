"""The plans that teach a cost profile most: uniform ones, ones that alternate, and such as a search would pick.

Uniform plans change a layer's inputs and outputs alike, and have hardly a conversion: what they teach cannot tell the
two apart, nor what a conversion takes. A search picks what looks cheap; where that is an error of the model, only
plans that were picked so show it.
"""

from collections.abc import Iterator

import numpy as np

from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.sites import without_absent_sites
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import Choice, Problem, Site, with_limits

PERIODS = (1, 2, 4)
"""Lengths of the runs of sites that alternate."""


def alternating_plans(space: PlanSpace) -> Iterator[Choice]:
    """Plans in which runs of one, two and four sites of a transform are unchanged and changed most, in turns, once
    beginning with either; the blocks stay."""
    inner = [site for site in space.open_sites if not _picks_a_block(space, site)]
    for period in PERIODS:
        for first in (0, 1):
            picks, counts = dict[str, str](), dict[str, int]()
            for site in inner:
                place = counts.get(site.transform, 0)
                counts[site.transform] = place + 1
                picks[site.name] = site.candidates[0 if (place // period + first) % 2 else -1].name
            yield without_absent_sites(space.open_sites, picks)


def _picks_a_block(space: PlanSpace, site: Site) -> bool:
    return site.place in {branch.block for branch in space.prepared.branches} and site.owner is None


def sought_plan(space: PlanSpace, profile: CostProfile, solver: Solver, rng: np.random.Generator) -> Choice:
    """The plan that a search with the solver picks, if losses and a latency limit were such as they are drawn here."""
    cheap = str(rng.choice(sorted({site.transform for site in space.open_sites})))
    losses = {site.name: _drawn_losses(site, site.transform == cheap, rng) for site in space.open_sites}
    problem = build_problem(space, profile, losses, {"latency": NONE})
    least, whole = fastest(problem, solver), space.latency(profile, {}).ms
    limit = float(np.exp(rng.uniform(np.log(1.05 * least), np.log(max(0.9 * whole, 1.06 * least)))))
    return solver.solve(with_limits(problem, {"latency": limit})).choice


CHEAP = 0.001
"""What the losses of one transform are beside those of the others, as those of int8 beside those of narrowing: another
transform in every plan, so that each is used as far as it goes now and then."""
MILD = 0.3
"""Of a site's harshest loss, what any change there costs at least."""
NONE = 1e-6
"""Ms that no plan holds: what a solver then comes nearest with is the fastest plan."""


def fastest(problem: Problem, solver: Solver) -> float:
    """Predicted ms of the fastest plan."""
    return solver.solve(with_limits(problem, {"latency": NONE})).costs["latency"]


def _drawn_losses(site: Site, cheap: bool, rng: np.random.Generator) -> dict[str, float]:
    """Losses that grow towards harsh candidates, more at some sites than at others."""
    weight = float(np.exp(rng.normal(0, 1)) * (CHEAP if cheap else 1.0))
    first, *others = [candidate.name for candidate in site.candidates]
    steps = np.linspace(0, 1, len(others) + 1)[1:]
    return {first: 0.0} | {name: weight * (MILD + (1 - MILD) * float(s)) for name, s in zip(others, steps, strict=True)}
