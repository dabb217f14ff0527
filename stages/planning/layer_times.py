"""A runtime's ms per executed node as ms per layer and per conversion: less what profiling adds, every node counted
once."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from paredown.models.compression.conv_integer import INTEGER
from paredown.models.compression.qdq import quantizable_nodes
from paredown.models.onnx.constants import ROUNDING
from paredown.models.onnx.edit import consumers_of_values, producers_of_values
from paredown.stages.products.cost_profile import PlanTimes
from paredown.stages.solvers.problem import Pick

LEAST = 0.2
"""Share of a node's profiled time that is its own in any case."""


@dataclass(frozen=True)
class _Owners:
    """A lowered plan's nodes, and who makes and reads its values; `layers` are the nodes whose precision is chosen."""

    nodes: Mapping[str, NodeProto]
    made: Mapping[str, NodeProto]
    readers: Mapping[str, list[NodeProto]]
    layers: Collection[str]

    @classmethod
    def of(cls, model: ModelProto) -> "_Owners":
        integer = (node.name for node in model.graph.node if node.op_type in INTEGER)
        nodes = {node.name: node for node in model.graph.node}
        layers = {*quantizable_nodes(model), *integer}
        return cls(nodes, producers_of_values(model), consumers_of_values(model), layers)

    def converts(self, name: str) -> bool:
        """Whether a node is there only because int8 and fp32 layers read each other."""
        return name.endswith(".guard") or (name in self.nodes and self.nodes[name].op_type in ROUNDING)

    def followed(self, name: str) -> str:
        """The layer itself, or the one that made what a node reads; empty where it reads the network's input."""
        node = self.nodes.get(name)
        while node is not None and node.name not in self.layers:
            node = next((self.made[value] for value in node.input if value in self.made), None)
        return node.name if node is not None else ""

    def reader(self, name: str) -> str:
        """The first layer behind a node."""
        node = self.nodes.get(name)
        while node is not None and node.name not in self.layers:
            node = next(iter(self.readers.get(node.output[0], [])), None)
        return node.name if node is not None else ""

    def owner(self, name: str, picks: Mapping[str, Pick]) -> str:
        """The layer that a node's time counts for: itself, or what it follows, or what reads it where it follows none,
        or only one in another block: what a block does to its input is there only with that block."""
        before = self.followed(name) or self.reader(name)
        if before and name in picks and picks.get(before) != picks[name]:
            behind = self.reader(name)
            return behind if picks.get(behind) == picks[name] else before
        return before


def plan_times(model: ModelProto, times: Mapping[str, float], latency: float, picks: Mapping[str, Pick]) -> PlanTimes:
    """The ms of every layer with what follows it in its block, of the conversions of what each layer makes, and of what
    belongs to none: in all the latency (ms). `times` are the runtime's ms per node; `picks` are those that layers and
    values need to exist."""
    owners, layers, conversions, rest = _Owners.of(model), dict[str, float](), dict[str, float](), 0.0
    for name, ms in without_profiling(times, latency).items():
        node = name.rpartition("@")[2]
        made, read = owners.followed(node), owners.reader(node)
        if owners.converts(node) and made and read:
            conversions[made] = conversions.get(made, 0.0) + ms
        elif owner := owners.owner(node, picks):
            layers[owner] = layers.get(owner, 0.0) + ms
        else:
            rest += ms
    return PlanTimes(layers, conversions, rest)


def without_profiling(times: Mapping[str, float], latency: float) -> dict[str, float]:
    """A profile's times per node so that they sum to the latency that was measured without a profiler.

    What profiling adds is much the same for every node, so it is taken off each of them; taken off in proportion, it
    would make small layers look dear. No node keeps less than `LEAST` of its time. Where the sum is too small, as
    runtimes also spend time between nodes, all times grow in proportion.
    """
    whole = sum(times.values())
    if whole <= latency:
        return {name: ms * latency / max(whole, 1e-9) for name, ms in times.items()}
    low, high = 0.0, max(times.values())
    for _ in range(40):
        middle = (low + high) / 2
        rest = sum(max(ms - middle, LEAST * ms) for ms in times.values())
        low, high = (middle, high) if rest > latency else (low, middle)
    return {name: max(ms - high, LEAST * ms) for name, ms in times.items()}


def owning_layers(model: ModelProto, names: Iterable[str], picks: Mapping[str, Pick]) -> dict[str, str]:
    """Executed nodes to the layers that they count for; empty where there is none."""
    owners = _Owners.of(model)
    return {name: owners.owner(name.rpartition("@")[2], picks) for name in names}
