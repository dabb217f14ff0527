"""The sites of a prepared model: which there are, which are pinned, and plans over them at random or in order."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from paredown.models.errors import InputError
from paredown.stages.analysis.plan_network import owner_of_layer
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers.problem import Choice, Pick, Site, allowed_candidates, still_needed
from paredown.stages.transforms.base import Transform


def with_pins(sites: Sequence[Site], pins: Mapping[str, str]) -> tuple[Site, ...]:
    """The sites as a search may decide them: of one in `pins` that candidate alone is left. Raises InputError where it
    has no such candidate."""
    return tuple(_pinned(site, pins[site.name]) if site.name in pins else site for site in sites)


def _pinned(site: Site, name: str) -> Site:
    left = tuple(candidate for candidate in site.candidates if candidate.name == name)
    if not left:
        allowed = ", ".join(candidate.name for candidate in site.candidates)
        raise InputError(f"{site.name} cannot be {name!r}; allowed: {allowed}")
    return replace(site, candidates=left)


def random_choice(sites: Sequence[Site], rng: np.random.Generator) -> Choice:
    """A plan at random whose neighbouring sites tend to agree, as those of good plans do."""
    choice: dict[str, str] = {}
    needed: set[Pick] = set()
    last: dict[str, float] = {}
    for site in sites:
        if site.transform not in last or rng.random() < 0.2:
            last[site.transform] = rng.random()
        fitting = allowed_candidates(site, choice, needed)
        picked = fitting[int(last[site.transform] * len(fitting))]
        choice[site.name] = picked.name
        needed |= still_needed(picked, choice)
    return without_absent_sites(sites, choice)


def sites_of(prepared: PreparedModel, transforms: Sequence[Transform]) -> tuple[Site, ...]:
    """All transforms' sites with their owners: a site whose layers all need the same pick exists only with it."""
    sites = tuple(site for transform in transforms for site in transform.sites(prepared))
    if not prepared.branches:
        return sites
    needs: dict[str, set[Pick | None]] = {site.name: set() for site in sites}
    for layer in prepared.network.layers:
        for name in (name for transform in transforms for name in transform.touching(prepared, layer)):
            needs[name].add(owner_of_layer(prepared, layer))
    return tuple(replace(s, owner=next(iter(needs[s.name]))) if len(needs[s.name]) == 1 else s for s in sites)


def without_absent_sites(sites: Sequence[Site], choice: Choice) -> dict[str, str]:
    """The choice without picks whose needs it does not meet, and without the sites whose owner it does not pick."""
    unchanged = {site.name: site.candidates[0].name for site in sites}
    left = _with_needs_met(sites, choice)
    picked = {**unchanged, **left}
    absent = {site.name for site in sites if site.owner and picked[site.owner[0]] != site.owner[1]}
    return {site: name for site, name in left.items() if site not in absent}


def _with_needs_met(sites: Sequence[Site], choice: Choice) -> Choice:
    """The choice without picks that need one of several others and have none; as each pick that goes may be what
    another one needs, they are looked through until none goes any more."""
    needs = {(site.name, c.name): set(c.needs) for site in sites for c in site.candidates if c.needs}
    before, left = set[Pick](), set(choice.items())
    while left != before:
        before = left
        left = {pick for pick in before if pick not in needs or needs[pick] & before}
    return {site: name for site, name in choice.items() if (site, name) in left}


def combinations(sites: Mapping[str, Site], names: Sequence[str], fixed: Choice) -> Iterator[Choice]:
    """Every choice at the named sites, in the order of their candidates; those in `fixed` have that candidate only."""
    options = ([fixed[name]] if name in fixed else [c.name for c in sites[name].candidates] for name in names)
    for picked in itertools.product(*options):
        yield dict(zip(names, picked, strict=True))
