"""Plans that change everything: what they can be made of, any milder plan can, so a rehearsal tries them."""

from collections.abc import Iterator

from paredown.models.compression.supernet import ABSORBED, KEEP
from paredown.stages.analysis.plan_network import covering_picks, is_merged, picks_of, site_of
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import without_absent_sites
from paredown.stages.solvers.problem import (
    Choice,
    Pick,
    Problem,
    allowed_candidates,
    owners_first,
    site_exists,
    still_needed,
)
from paredown.stages.transforms.loading import sparse_layers


def extreme_plans(space: PlanSpace) -> Iterator[Choice]:
    """For the original, and for few networks that show every replacement of its blocks: the plan with the last, that is
    the harshest, candidate everywhere else. The last one mixes blocks that stay, are replaced, and are merged."""
    for picks in covering_picks(space.prepared.branches):
        yield extreme_plan(space, {site_of(block): name for block, name in picks.items()})
    if space.prepared.branches:
        yield extreme_plan(space, mixed_picks(space))


def first_and_last_variants(space: PlanSpace) -> list[Choice]:
    """Of the variants of every network, by its picks of blocks, the first one and the last; of those with zeros too."""
    networks: dict[tuple[frozenset[Pick], bool], list[Choice]] = {}
    for variant in space.variants():
        zeros = bool(sparse_layers(space.transforms, variant))
        networks.setdefault((frozenset(picks_of(variant).items()), zeros), []).append(variant)
    return [variant for alike in networks.values() for variant in (alike[0], *alike[1:][-1:])]


def mixed_picks(space: PlanSpace) -> Choice:
    """Sites of blocks to picks, in turn: a replacement, the block itself, a replacement of two where there is one."""
    picks: dict[str, str] = {}
    branches = space.prepared.branches
    for index, branch in enumerate(branches):
        alone = [n for n in branch.values if n not in (KEEP, ABSORBED) and not is_merged(n)]
        both = [n for n in branch.values if is_merged(n)]
        if index % 4 == 0 and alone:
            picks[site_of(branch.block)] = alone[-1]
        if index % 4 == 2 and both:
            picks |= {site_of(branch.block): both[0], site_of(branches[index + 1].block): ABSORBED}
    return picks


def extreme_plan(space: PlanSpace, picks: Choice) -> Choice:
    """The plan with these picks of blocks, the others as they are, and of every other site the last candidate."""
    choice: dict[str, str] = {}
    needed: set[Pick] = set()
    blocks = {site_of(branch.block) for branch in space.prepared.branches}
    for site in owners_first(Problem(space.open_sites)):
        if not site_exists(site, choice):
            continue
        fitting = allowed_candidates(site, choice, needed)
        named = {candidate.name: candidate for candidate in fitting}
        wanted = picks.get(site.name, site.candidates[0].name if site.name in blocks else fitting[-1].name)
        picked = named.get(wanted, fitting[0])
        choice[site.name] = picked.name
        needed |= still_needed(picked, choice)
    return without_absent_sites(space.open_sites, choice)
