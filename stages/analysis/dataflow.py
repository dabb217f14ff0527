"""Which layer reads which in a supernet, behind which picks, and how long every value lives."""

from itertools import groupby

from torch.fx import Node

from paredown.models.compression.supernet import Branch
from paredown.models.network.layers import Layer
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.plan_network import owner_of_layer, site_of
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers.problem import Pick

PassCondition = tuple[str, frozenset[str]]
"""A site, and the candidates any of which lets a value through."""


PassConditions = frozenset[PassCondition]


@remembered_per_object
def layer_borders(prepared: PreparedModel) -> tuple[tuple[Layer, Layer, PassConditions], ...]:
    """(producer, consumer, gates) of layers that exchange a value where all gates are open.

    The gates are blocks between the two that compute nothing there (an identity), not those that the layers need
    themselves.
    """
    return tuple((made, layer, gates) for layer, read in layer_readings(prepared) for made, gates in read)


@remembered_per_object
def layer_readings(prepared: PreparedModel) -> tuple[tuple[Layer, tuple[tuple[Layer, PassConditions], ...]], ...]:
    """Every layer once per value that it reads, with the (producer, gates) of which that value may come."""
    made = {layer.value: layer for layer in prepared.network.layers}
    return tuple(
        (layer, tuple((made[name], _without(gates, owner_of_layer(prepared, made[name]))) for name, gates in sources))
        for layer in prepared.network.layers
        for sources in (_read(prepared, value, made) for value in dict.fromkeys(layer.inputs))
    )


def _without(gates: PassConditions, owner: Pick | None) -> PassConditions:
    """The gates but for the one of the producer's own block."""
    return frozenset(gate for gate in gates if owner is None or gate[0] != owner[0])


def _read(prepared: PreparedModel, read: str, made: dict[str, Layer]) -> list[tuple[str, PassConditions]]:
    """The layers' values behind a value that is read, directly or behind operations that are no layers."""
    nodes = {node.name: node for node in prepared.network.graph.graph.nodes}
    joins = {branch.join: branch for branch in prepared.branches}
    sources: dict[tuple[str, PassConditions], None] = {}
    waiting: list[tuple[Node, PassConditions]] = [(nodes[read], frozenset())]
    while waiting:
        node, gates = waiting.pop(0)
        if node.name in made:
            sources[node.name, gates] = None
        elif node.name in joins:
            waiting += [(nodes[value], gates | {gate}) for value, gate in _gates(joins[node.name]).items()]
        elif node.op == "call_function":
            waiting += [(before, gates) for before in node.all_input_nodes]
    return list(sources)


def _gates(branch: Branch) -> dict[str, PassCondition]:
    """Value to the candidates that hand it on: several that compute nothing hand on the same."""
    names = {value: frozenset(n for n, v in branch.values.items() if v == value) for value in branch.values.values()}
    return {value: (site_of(branch.block), candidates) for value, candidates in names.items()}


@remembered_per_object
def schedule_steps(prepared: PreparedModel) -> dict[str, int]:
    """Layer to its place in the schedule; the branches of a block share their places, as only one of them runs."""
    place, steps_of = 0, dict[str, int]()
    for block, layers in groupby(
        prepared.network.layers, key=lambda layer: (owner_of_layer(prepared, layer) or ("",))[0]
    ):
        counts: dict[Pick | None, int] = {}
        for layer in layers:
            pick = owner_of_layer(prepared, layer)
            steps_of[layer.name] = place + counts.get(pick, 0)
            counts[pick] = counts.get(pick, 0) + 1
        place += max(counts.values())
        assert block == "" or len({name for name, _ in filter(None, counts)}) == 1
    return steps_of


@remembered_per_object
def value_lifetimes(prepared: PreparedModel) -> dict[str, tuple[int, int]]:
    """Layer to the first and last step of the schedule at which its output is alive."""
    place = schedule_steps(prepared)
    ends = {name: (index, index) for name, index in place.items()}
    for producer, consumer, between in layer_borders(prepared):
        if not between:
            ends[producer.name] = (place[producer.name], max(ends[producer.name][1], place[consumer.name]))
    return ends
