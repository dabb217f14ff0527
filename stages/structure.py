"""Which network a plan leaves: replaced blocks change which layers there are, everything else only changes layers.

The subject of a search over substitutes is a supernet (`models.supernet`). A plan picks one branch per block; `under`
cuts out the network that is left, so that whatever works on a plan sees an ordinary network. The functions below it
say, for all plans at once, which layers exist only with which pick.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, pairwise, zip_longest

from torch.fx import Node

from paredown.models.graph import ChannelGroup, Layer, Network, module_of
from paredown.models.memo import remembered_per_object
from paredown.models.supernet import ABSORBED, KEEP, MERGED, Branch, Picks, select, select_onnx
from paredown.stages.problem import Pick, Site
from paredown.stages.transforms.base import Choice, Subject, Transform

Gate = tuple[str, frozenset[str]]
"""A site, and the candidates any of which lets a value through."""
Gates = frozenset[Gate]

PREFIX = "substitute:"
"""Of the sites that pick a block's branch: they own the sites inside it."""


def picks_of(choice: Choice) -> dict[str, str]:
    """Block to candidate, of the blocks that a plan replaces."""
    sites = ((site, name) for site, name in choice.items() if site.startswith(PREFIX) and name != KEEP)
    return {site.removeprefix(PREFIX): name for site, name in sites}


def under(subject: Subject, choice: Choice) -> Subject:
    """The subject of the plan's own network, which has no branches; the same object for the same picks."""
    return _under(subject, tuple(sorted(picks_of(choice).items()))) if subject.branches else subject


@lru_cache(maxsize=32)
def _under(subject: Subject, picks: tuple[tuple[str, str], ...]) -> Subject:
    network = select(subject.network, subject.branches, dict(picks))
    return replace(
        subject,
        network=network,
        model=select_onnx(subject.model, subject.branches, dict(picks)),
        groups=present_groups(subject.groups, network),
        branches=(),
    )


def present_groups(groups: Sequence[ChannelGroup], network: Network) -> tuple[ChannelGroup, ...]:
    """The groups as far as they are there: under their own names, with the layers that are left."""
    there = {layer.name for layer in network.layers}
    left = (
        replace(g, outputs=tuple(n for n in g.outputs if n in there), inputs=tuple(n for n in g.inputs if n in there))
        for g in groups
    )
    return tuple(group for group in left if group.outputs)


def even_picks(found: Sequence[Branch]) -> tuple[Picks, ...]:
    """Few networks that show every branch: first the original, then each block's first replacement, and so on; at last
    every other block merged with the next one, and then those between."""
    alone = [[{b.block: n} for n in b.values if n not in (KEEP, ABSORBED) and not merges(n)] for b in found]
    both = [[{a.block: n, b.block: ABSORBED} for n in a.values if merges(n)] for a, b in pairwise(found)]
    return ({}, *_in_turn(alone), *_in_turn(both[::2]), *_in_turn(both[1::2]))


def _in_turn(offers: Sequence[Sequence[Picks]]) -> Iterator[Picks]:
    """The first offers of all, then the second ones, and so on."""
    for turn in zip_longest(*offers, fillvalue=dict[str, str]()):
        yield {block: name for picks in turn for block, name in picks.items()}


def site_of(block: str) -> str:
    return PREFIX + block


def merges(candidate: str) -> bool:
    """Whether a block's candidate stands for the next block too."""
    return candidate.startswith(MERGED)


@remembered_per_object
def owner(subject: Subject, layer: Layer) -> Pick | None:
    """The pick that a layer needs to exist; None where it is always there."""
    return _pick_at(subject, layer.module)


def _pick_at(subject: Subject, module: str) -> Pick | None:
    found = ((branch, branch.candidate(module)) for branch in subject.branches)
    return next(((site_of(branch.block), name) for branch, name in found if name is not None), None)


@remembered_per_object
def picks_by_name(subject: Subject) -> dict[str, Pick]:
    """Layer or value to the pick that it needs to exist, of those that need one."""
    picks = {layer.name: owner(subject, layer) for layer in subject.network.layers}
    picks |= {node.name: _pick_at(subject, module_of(node)) for node in subject.network.graph.graph.nodes}
    return {name: pick for name, pick in picks.items() if pick is not None}


def sites_of(subject: Subject, transforms: Sequence[Transform]) -> tuple[Site, ...]:
    """All transforms' sites with their owners: a site whose layers all need the same pick exists only with it."""
    sites = tuple(site for transform in transforms for site in transform.sites(subject))
    if not subject.branches:
        return sites
    needs: dict[str, set[Pick | None]] = {site.name: set() for site in sites}
    for layer in subject.network.layers:
        for name in (name for transform in transforms for name in transform.touching(subject, layer)):
            if not name.startswith(PREFIX):
                needs[name].add(owner(subject, layer))
    return tuple(replace(s, owner=next(iter(needs[s.name]))) if len(needs[s.name]) == 1 else s for s in sites)


def existing(sites: Sequence[Site], choice: Choice) -> dict[str, str]:
    """The choice without picks whose needs it does not meet, and without the sites whose owner it does not pick."""
    choice = _met(sites, choice)
    first = {site.name: site.candidates[0].name for site in sites}
    owners = {site.name: site.owner for site in sites}
    there = {n: owner is None or choice.get(owner[0], first[owner[0]]) == owner[1] for n, owner in owners.items()}
    return {site: name for site, name in choice.items() if there[site]}


def _met(sites: Sequence[Site], choice: Choice) -> Choice:
    """Less and less is left, until all needs are met."""
    needs = {(site.name, c.name): set(c.needs) for site in sites for c in site.candidates if c.needs}
    left = {pick for pick in choice.items() if pick not in needs or needs[pick] & set(choice.items())}
    return choice if len(left) == len(choice) else _met(sites, {s: n for s, n in choice.items() if (s, n) in left})


@remembered_per_object
def borders(subject: Subject) -> tuple[tuple[Layer, Layer, Gates], ...]:
    """(producer, consumer, gates) of layers that exchange a value where all gates are open.

    The gates are blocks between the two that compute nothing there (an identity), not those that the layers need
    themselves.
    """
    return tuple((made, layer, gates) for layer, read in readings(subject) for made, gates in read)


@remembered_per_object
def readings(subject: Subject) -> tuple[tuple[Layer, tuple[tuple[Layer, Gates], ...]], ...]:
    """Every layer once per value that it reads, with the (producer, gates) of which that value may come."""
    made = {layer.value: layer for layer in subject.network.layers}
    return tuple(
        (layer, tuple((made[name], _without(gates, owner(subject, made[name]))) for name, gates in found))
        for layer in subject.network.layers
        for found in (_read(subject, value, made) for value in dict.fromkeys(layer.inputs))
    )


def _without(gates: Gates, owner: Pick | None) -> Gates:
    """The gates but for the one of the producer's own block."""
    return frozenset(gate for gate in gates if owner is None or gate[0] != owner[0])


def _read(subject: Subject, read: str, made: dict[str, Layer]) -> list[tuple[str, Gates]]:
    """The layers' values behind a value that is read, directly or behind operations that are no layers."""
    nodes = {node.name: node for node in subject.network.graph.graph.nodes}
    joins = {branch.join: branch for branch in subject.branches}
    found: dict[tuple[str, Gates], None] = {}
    waiting: list[tuple[Node, Gates]] = [(nodes[read], frozenset())]
    while waiting:
        node, gates = waiting.pop(0)
        if node.name in made:
            found[node.name, gates] = None
        elif node.name in joins:
            waiting += [(nodes[value], gates | {gate}) for value, gate in _gates(joins[node.name]).items()]
        elif node.op == "call_function":
            waiting += [(before, gates) for before in node.all_input_nodes]
    return list(found)


def _gates(branch: Branch) -> dict[str, Gate]:
    """Value to the candidates that hand it on: several that compute nothing hand on the same."""
    names = {value: frozenset(n for n, v in branch.values.items() if v == value) for value in branch.values.values()}
    return {value: (site_of(branch.block), candidates) for value, candidates in names.items()}


@remembered_per_object
def steps(subject: Subject) -> dict[str, int]:
    """Layer to its place in the schedule; the branches of a block share their places, as only one of them runs."""
    place, found = 0, dict[str, int]()
    for block, layers in groupby(subject.network.layers, key=lambda layer: (owner(subject, layer) or ("",))[0]):
        counts: dict[Pick | None, int] = {}
        for layer in layers:
            pick = owner(subject, layer)
            found[layer.name] = place + counts.get(pick, 0)
            counts[pick] = counts.get(pick, 0) + 1
        place += max(counts.values())
        assert block == "" or len({name for name, _ in filter(None, counts)}) == 1
    return found


@remembered_per_object
def lifetimes(subject: Subject) -> dict[str, tuple[int, int]]:
    """Layer to the first and last step of the schedule at which its output is alive."""
    place = steps(subject)
    ends = {name: (index, index) for name, index in place.items()}
    for producer, consumer, between in borders(subject):
        if not between:
            ends[producer.name] = (place[producer.name], max(ends[producer.name][1], place[consumer.name]))
    return ends
