"""Which network a plan leaves: replaced blocks change which layers there are, everything else only changes layers.

Where blocks can be replaced, the prepared network is a supernet (`models.compression.supernet`). A plan picks one
branch per block; `network_of_plan` cuts out the network that is left, so that whatever works on a plan sees an ordinary
network. The functions below it say, for all plans at once, which layers exist only with which pick.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise, zip_longest

from paredown.models.compression.supernet import (
    ABSORBED,
    KEEP,
    MERGED,
    Branch,
    Picks,
    select_branches,
    select_branches_onnx,
)
from paredown.models.network.layers import ChannelGroup, Layer
from paredown.models.network.nodes import module_of
from paredown.models.network.trace import Network
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers.problem import Choice, Pick, transform_and_place

PICKS = "substitute"
"""What the names of sites that pick a block's branch start with, whichever transform has them: such a site owns the
sites of the layers in the branch."""


def picks_of(choice: Choice) -> dict[str, str]:
    """Block to candidate, of the blocks that a plan replaces."""
    named = ((*transform_and_place(site), name) for site, name in choice.items())
    return {block: name for kind, block, name in named if kind == PICKS and name != KEEP}


def network_of_plan(prepared: PreparedModel, choice: Choice) -> PreparedModel:
    """The plan's own network, which has no branches, as a prepared model; the same object for the same picks."""
    return _cut_out(prepared, tuple(sorted(picks_of(choice).items()))) if prepared.branches else prepared


@lru_cache(maxsize=32)
def _cut_out(prepared: PreparedModel, picks: tuple[tuple[str, str], ...]) -> PreparedModel:
    """The network with these branches (block, candidate), and of all others the block itself."""
    network = select_branches(prepared.network, prepared.branches, dict(picks))
    return replace(
        prepared,
        network=network,
        model=select_branches_onnx(prepared.model, prepared.branches, dict(picks)),
        groups=present_groups(prepared.groups, network),
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


def covering_picks(branches: Sequence[Branch]) -> tuple[Picks, ...]:
    """Few networks that show every branch: first the original, then each block's first replacement, and so on; at last
    every other block merged with the next one, and then those between."""
    alone = [[{b.block: n} for n in b.values if n not in (KEEP, ABSORBED) and not is_merged(n)] for b in branches]
    both = [[{a.block: n, b.block: ABSORBED} for n in a.values if is_merged(n)] for a, b in pairwise(branches)]
    return ({}, *_in_turn(alone), *_in_turn(both[::2]), *_in_turn(both[1::2]))


def _in_turn(offers: Sequence[Sequence[Picks]]) -> Iterator[Picks]:
    """The first offers of all, then the second ones, and so on."""
    for turn in zip_longest(*offers, fillvalue=dict[str, str]()):
        yield {block: name for picks in turn for block, name in picks.items()}


def site_of(block: str) -> str:
    """The site that picks the branch of a block."""
    return f"{PICKS}:{block}"


def is_merged(candidate: str) -> bool:
    """Whether a block's candidate stands for the next block too."""
    return candidate.startswith(MERGED)


@remembered_per_object
def owner_of_layer(prepared: PreparedModel, layer: Layer) -> Pick | None:
    """The pick that a layer needs to exist; None where it is always there."""
    return _pick_at(prepared, layer.module)


def _pick_at(prepared: PreparedModel, module: str) -> Pick | None:
    """The pick that a module of the supernet belongs to."""
    candidates = ((branch, branch.candidate(module)) for branch in prepared.branches)
    return next(((site_of(branch.block), name) for branch, name in candidates if name is not None), None)


@remembered_per_object
def picks_by_name(prepared: PreparedModel) -> dict[str, Pick]:
    """Layer or value to the pick that it needs to exist, of those that need one."""
    picks = {layer.name: owner_of_layer(prepared, layer) for layer in prepared.network.layers}
    picks |= {node.name: _pick_at(prepared, module_of(node)) for node in prepared.network.graph.graph.nodes}
    return {name: pick for name, pick in picks.items() if pick is not None}
