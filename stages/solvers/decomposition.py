"""A site that most of the problem depends on, such as the side of the input: each of its candidates is solved alone.

One program over all of them ties every table to that site. Solving the few parts one after the other takes half the
time and gives the same plan.
"""

from dataclasses import replace
from typing import TypeVar

from paredown.stages.solvers.problem import BorderCharge, CostFactor, Problem, Site

Part = TypeVar("Part", CostFactor, BorderCharge)

FEW = 32
"""Problems with fewer factors and charges are solved at once in any case."""


def problem_parts(problem: Problem) -> tuple[Problem, ...]:
    """The problem once per candidate of the site that most of it depends on; itself where there is no such site."""
    site = _dominant_site(problem)
    return tuple(_only(problem, site, c.name) for c in site.candidates) if site else (problem,)


def _dominant_site(problem: Problem) -> Site | None:
    """The site in most of many tables, and in more than half of them, whose candidates nothing else depends on."""
    fixed = {site.owner[0] for site in problem.sites if site.owner}
    fixed |= {site.name for site in problem.sites if any(candidate.needs for candidate in site.candidates)}
    fixed |= {name for c in problem.charges for occasion in c.when for term in occasion for name, _ in term}
    free = [site for site in problem.sites if site.owner is None and site.name not in fixed]
    tables = [factor.sites for factor in problem.factors] + [charge.sites for charge in problem.charges]
    count = {site.name: sum(site.name in sites for sites in tables) for site in free}
    most = max(free, key=lambda site: count[site.name], default=None)
    many = most is not None and len(tables) >= FEW and count[most.name] > len(tables) / 2
    return most if many else None


def _only(problem: Problem, site: Site, name: str) -> Problem:
    """The problem whose `site` offers one candidate."""
    picked = replace(site, candidates=tuple(c for c in site.candidates if c.name == name))
    sites = tuple(picked if s.name == site.name else s for s in problem.sites)
    factors = tuple(_within(factor, site, name) for factor in problem.factors)
    return replace(
        problem, sites=sites, factors=factors, charges=tuple(_within(c, site, name) for c in problem.charges)
    )


def _within(part: Part, site: Site, name: str) -> Part:
    if site.name not in part.sites:
        return part
    place = part.sites.index(site.name)
    return replace(part, table={names: costs for names, costs in part.table.items() if names[place] == name})
