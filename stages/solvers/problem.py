"""The search as pure data: sites, candidates, what they cost together, and the limits.

A plan picks one candidate for every site. The predicted cost of a plan under a budget is
`Problem.fixed[budget]` plus the unary costs of the picked candidates plus, for every factor, the entry of its
table at the picked candidates. The predicted loss is the sum of the picked candidates' losses.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

Costs = Mapping[str, float]
"""Cost per budget: `latency` in ms, `size` in MiB, `memory@<step>` in MiB live at one schedule step."""

TOLERANCE = 2e-6
"""The relative excess up to which a limit counts as held: twice what a MIP solver allows itself."""

Pick = tuple[str, str]
"""(site, candidate)"""


@dataclass(frozen=True)
class Candidate:
    """One change at one site. `loss` is the expected increase of the loss, in nats.

    Where `needs` is not empty, only plans with one of those picks may have this candidate: two blocks that one
    replacement stands for change together or not at all.
    """

    name: str
    loss: float = 0.0
    costs: Costs = field(default_factory=dict)
    needs: tuple[Pick, ...] = ()


@dataclass(frozen=True)
class Site:
    """A place that can change.

    `owner` is None, or (site, candidate): this site exists only in plans that pick that candidate there. That
    is how a block owns the inner sites of each of its candidates. Owners may be nested; they never form a
    ring. `ordered` candidates are listed from mild to harsh.
    """

    name: str
    candidates: tuple[Candidate, ...]
    owner: Pick | None = None
    ordered: bool = True

    @property
    def transform(self) -> str:
        """The transform that changes something here."""
        return transform_and_place(self.name)[0]

    @property
    def place(self) -> str:
        """What is changed: a layer, a group of channels, a block, the input."""
        return transform_and_place(self.name)[1]


def transform_and_place(site: str) -> tuple[str, str]:
    """The two parts of a site's name, `<transform>:<place>`; the place is empty where a name has only one."""
    transform, _, place = site.partition(":")
    return transform, place


@dataclass(frozen=True)
class CostFactor:
    """What candidates of several sites cost together, beyond their unary costs.

    `table` maps one candidate name per site in `sites` (same order) to costs; a combination that is not
    listed costs nothing. A factor counts only where all its sites exist. Example: a layer's time as a
    function of its input width, output width and precision.
    """

    sites: tuple[str, ...]
    table: Mapping[tuple[str, ...], Costs]


Term = frozenset[Pick]
"""Picks of which a plan can have one at most."""


@dataclass(frozen=True)
class BorderCharge:
    """Costs, none of them negative, that a plan pays once where one of the occasions `when` comes true.

    An occasion comes true where a plan has a pick of each of its terms; in no plan may two occasions. `table` lists
    the costs by the candidates of `sites`, which exist where an occasion comes true. Example: the conversion at an
    fp32/int8 border, which costs the same whichever of a block's candidates lies before it. Written as factors, there
    would be one for every pair of candidates.
    """

    when: tuple[tuple[Term, ...], ...]
    sites: tuple[str, ...]
    table: Mapping[tuple[str, ...], Costs]


@dataclass(frozen=True)
class Problem:
    """Sites, factors and hard limits per budget (same units as the costs)."""

    sites: tuple[Site, ...]
    factors: tuple[CostFactor, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    fixed: Costs = field(default_factory=dict)
    charges: tuple[BorderCharge, ...] = ()


@dataclass(frozen=True)
class Solution:
    """A solver's answer.

    `choice` maps every existing site to its candidate; sites whose owner was not picked are left out. When no
    plan (far enough from the avoided ones) holds the limits `feasible` is False, `choice` is the plan with
    the least relative excess, and `least` holds, per violated limit, the smallest value that any plan at all
    can reach on that budget alone (the proof; a solver that proves nothing leaves it empty). A budget family
    `memory@*` is proved as a whole under the name `memory`. Limits may each be within reach and still not
    together. `gap` is the relative optimality gap, infinite where nothing is proved.
    """

    choice: Mapping[str, str]
    loss: float
    costs: Costs
    feasible: bool
    least: Mapping[str, float] = field(default_factory=dict)
    gap: float = 0.0
    seconds: float = 0.0


def limit_bounds(limit: str, budget: str) -> bool:
    """Whether a limit bounds a budget: `latency` bounds `latency`, `memory` bounds every `memory@<step>`."""
    return budget == limit or budget.startswith(f"{limit}@")


def largest_cost(costs: Costs, limit: str) -> float:
    """The largest cost that a limit bounds; 0 where there is none."""
    return max((value for budget, value in costs.items() if limit_bounds(limit, budget)), default=0.0)


def plan_cost(problem: Problem, choice: Mapping[str, str]) -> dict[str, float]:
    """Predicted cost of a plan per budget; a budget that nothing in the plan touches is left out."""
    total: defaultdict[str, float] = defaultdict(float, problem.fixed)
    picked = (c.costs for s in problem.sites for c in s.candidates if choice.get(s.name) == c.name)
    for costs in (*picked, *_joint(problem, choice)):
        for budget, value in costs.items():
            total[budget] += value
    return dict(total)


def _joint(problem: Problem, choice: Mapping[str, str]) -> Iterator[Costs]:
    for factor in problem.factors:
        if all(site in choice for site in factor.sites):
            yield factor.table.get(tuple(choice[site] for site in factor.sites), {})
    picks = set(choice.items())
    for charge in problem.charges:
        if any(all(term & picks for term in occasion) for occasion in charge.when):
            yield charge.table.get(tuple(choice[site] for site in charge.sites), {})


def plan_loss(problem: Problem, choice: Mapping[str, str]) -> float:
    """Predicted loss of a plan, in nats over the original."""
    return sum(c.loss for s in problem.sites for c in s.candidates if choice.get(s.name) == c.name)


def limit_excess(problem: Problem, choice: Mapping[str, str]) -> dict[str, float]:
    """How far a plan is over each limit, relative to the limit; 0 where it holds."""
    costs = plan_cost(problem, choice)
    return {limit: max(0.0, largest_cost(costs, limit) / value - 1) for limit, value in problem.limits.items()}


def holds_limits(problem: Problem, choice: Mapping[str, str]) -> bool:
    """Whether a plan is predicted to hold every limit."""
    return all(over <= TOLERANCE for over in limit_excess(problem, choice).values())


def with_limits(problem: Problem, limits: Mapping[str, float]) -> Problem:
    """The problem with these limits changed or added; the others stay."""
    return replace(problem, limits={**problem.limits, **limits})


def owners_first(problem: Problem) -> tuple[Site, ...]:
    """The sites, every owner before what it owns. Raises ValueError where owners form a ring."""
    order: dict[str, Site] = {}
    waiting = list(problem.sites)
    while waiting:
        ready = [site for site in waiting if site.owner is None or site.owner[0] in order]
        if not ready:
            raise ValueError(f"the owners of these sites form a ring: {', '.join(s.name for s in waiting)}")
        order |= {site.name: site for site in ready}
        waiting = [site for site in waiting if site.name not in order]
    return tuple(order.values())


def site_exists(site: Site, choice: Mapping[str, str]) -> bool:
    """Whether a site is there in a plan that already decides the site's owner."""
    return site.owner is None or choice.get(site.owner[0]) == site.owner[1]


def allowed_candidates(site: Site, choice: Mapping[str, str], needed: Collection[Pick]) -> tuple[Candidate, ...]:
    """The candidates that fit a plan which already decides some sites: those that earlier picks need, where they need
    any, else those whose own needs are met or can still be."""
    wanted = tuple(c for c in site.candidates if (site.name, c.name) in needed)
    return wanted or tuple(c for c in site.candidates if not c.needs or _can_be_met(c, choice))


def still_needed(candidate: Candidate, choice: Mapping[str, str]) -> set[Pick]:
    """The picks at sites not decided yet that would meet a candidate's needs; none where they are met already."""
    met = bool(set(candidate.needs) & set(choice.items()))
    return set() if met else {need for need in candidate.needs if need[0] not in choice}


def _can_be_met(candidate: Candidate, choice: Mapping[str, str]) -> bool:
    return any(choice.get(site, name) == name for site, name in candidate.needs)


def first_plan(problem: Problem) -> dict[str, str]:
    """The plan that picks every existing site's first candidate."""
    choice: dict[str, str] = {}
    for site in owners_first(problem):
        if site_exists(site, choice):
            choice[site.name] = site.candidates[0].name
    return choice


def is_plan(problem: Problem, choice: Mapping[str, str]) -> bool:
    """Whether `choice` picks one known candidate for each existing site, with what it needs, and nothing else."""
    known: dict[str, str] = {}
    for site in owners_first(problem):
        if site_exists(site, known):
            picked = next((c for c in site.candidates if c.name == choice.get(site.name)), None)
            if picked is None or (picked.needs and not set(picked.needs) & set(choice.items())):
                return False
            known[site.name] = picked.name
    return known == dict(choice)


def validate_problem(problem: Problem) -> None:
    """Raise ValueError, naming the part, unless the problem is well formed."""
    names = [site.name for site in problem.sites]
    if not names:
        raise ValueError("the problem has no sites: there is nothing to choose")
    _unique("the problem", "site", names)
    known = {site.name: {candidate.name for candidate in site.candidates} for site in problem.sites}
    for site in problem.sites:
        _check_site(site, known)
    for factor in problem.factors:
        _check_factor(factor, known)
    for charge in problem.charges:
        _check_charge(charge, known)
    owners_first(problem)
    _finite("the fixed cost", problem.fixed)
    _check_limits(problem)


def _check_site(site: Site, known: Mapping[str, set[str]]) -> None:
    if not site.candidates:
        raise ValueError(f"site '{site.name}' has no candidates; it needs at least one")
    _unique(f"site '{site.name}'", "candidate", [candidate.name for candidate in site.candidates])
    if site.owner is not None and site.owner[1] not in known.get(site.owner[0], ()):
        raise ValueError(f"site '{site.name}' is owned by {site.owner}, which is no candidate of any site")
    if site.candidates[0].needs:
        raise ValueError(f"the first candidate of '{site.name}' needs {site.candidates[0].needs}; it may need nothing")
    for need in (need for candidate in site.candidates for need in candidate.needs):
        if need[1] not in known.get(need[0], ()):
            raise ValueError(f"a candidate of '{site.name}' needs {need}, which is no candidate of any site")
    for candidate in site.candidates:
        _finite(f"candidate '{candidate.name}' of '{site.name}'", {"loss": candidate.loss, **candidate.costs})


def _check_factor(factor: CostFactor, known: Mapping[str, set[str]]) -> None:
    if not factor.sites:
        raise ValueError("a factor names no site; what every plan costs belongs into the fixed costs")
    _check_table(f"the factor over {factor.sites}", factor.sites, factor.table, known)


def _check_charge(charge: BorderCharge, known: Mapping[str, set[str]]) -> None:
    where = f"the charge over {charge.sites}"
    for site, name in (pick for occasion in charge.when for term in occasion for pick in term):
        if name not in known.get(site, ()):
            raise ValueError(f"{where} depends on {(site, name)}, which is no candidate of any site")
    _check_table(where, charge.sites, charge.table, known)
    if any(value < 0 for costs in charge.table.values() for value in costs.values()):
        raise ValueError(f"{where} lists a negative cost; a charge has none")


def _check_table(
    where: str, sites: tuple[str, ...], table: Mapping[tuple[str, ...], Costs], known: Mapping[str, set[str]]
) -> None:
    _unique(where, "site", sites)
    for site in sites:
        if site not in known:
            raise ValueError(f"{where} names the unknown site '{site}'")
    for combination, costs in table.items():
        if len(combination) != len(sites):
            raise ValueError(f"{where} lists {combination}; it needs {len(sites)} names")
        for site, name in zip(sites, combination, strict=True):
            if name not in known[site]:
                raise ValueError(f"{where} lists '{name}', which is no candidate of '{site}'")
        _finite(f"{where} at {combination}", costs)


def _check_limits(problem: Problem) -> None:
    names = cost_names(problem)
    for limit, value in problem.limits.items():
        if not value > 0:
            raise ValueError(f"the limit '{limit}' is {value}; limits are positive")
        if not any(limit_bounds(limit, budget) for budget in names):
            raise ValueError(f"the limit '{limit}' bounds no cost; costs are: {', '.join(names) or 'none'}")


def cost_names(problem: Problem) -> tuple[str, ...]:
    """Every budget that something costs, sorted."""
    parts: tuple[CostFactor | BorderCharge, ...] = (*problem.factors, *problem.charges)
    tables = (costs for part in parts for costs in part.table.values())
    unary = (candidate.costs for site in problem.sites for candidate in site.candidates)
    return tuple(sorted({budget for costs in (problem.fixed, *unary, *tables) for budget in costs}))


def _unique(where: str, kind: str, names: tuple[str, ...] | list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where} names the {kind} '{twice[0]}' twice")


def _finite(where: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{where} has {name} = {value}; it must be a finite number")


Choice = Mapping[str, str]
"""Site to candidate. A site that is not named stays as it is: its first candidate."""
