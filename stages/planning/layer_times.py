"""A runtime's ms per executed node as ms per layer: less what profiling adds, and every node counted for one layer."""

from collections.abc import Collection, Mapping

from onnx import ModelProto, NodeProto

from paredown.models.compression.conv_integer import INTEGER
from paredown.models.compression.qdq import quantizable_nodes
from paredown.models.onnx.edit import consumers_of_values, producers_of_values
from paredown.stages.solvers.problem import Pick

LEAST = 0.2
"""Share of a node's profiled time that is its own in any case."""


def layer_times(
    model: ModelProto, times: Mapping[str, float], latency: float, picks: Mapping[str, Pick]
) -> dict[str, float]:
    """The ms of every layer with what follows it in its block: in all, with what converts between precisions, the
    latency (ms). `times` are the runtime's ms per node; `picks` are those that layers and values need to exist."""
    owned: dict[str, float] = {}
    for name, ms in without_profiling(times, latency).items():
        if layer := owning_layer(model, name, picks):
            owned[layer] = owned.get(layer, 0.0) + ms
    return owned


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


def owning_layer(model: ModelProto, name: str, picks: Mapping[str, Pick]) -> str:
    """The layer that a node's time counts for: itself, or what it follows, or what reads it where it follows none, or
    only one in another block: what a block does to its input is there only with that block. Conversions count for no
    layer."""
    name = name.rpartition("@")[2]
    nodes = {node.name: node for node in model.graph.node}
    chosen = {*quantizable_nodes(model), *(node.name for node in model.graph.node if node.op_type in INTEGER)}
    before = _followed(model, name, nodes, chosen)
    if before and name in picks and picks.get(before) != picks[name]:
        behind = _reader(model, nodes[name], chosen)
        return behind if picks.get(behind) == picks[name] else before
    return before


def _followed(model: ModelProto, name: str, nodes: Mapping[str, NodeProto], chosen: Collection[str]) -> str:
    """The layer itself, or what it follows, or what reads it where it follows none."""
    made = producers_of_values(model)
    while name not in chosen:
        node = nodes.get(name)
        if node is None or node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.name.endswith(".guard"):
            return ""
        before = next((made[value] for value in node.input if value in made), None)
        while before is not None and before.op_type in ("QuantizeLinear", "DequantizeLinear"):
            before = next((made[value] for value in before.input if value in made), None)
        if before is None:
            return _reader(model, node, chosen)
        name = before.name
    return name


def _reader(model: ModelProto, node: NodeProto | None, chosen: Collection[str]) -> str:
    """The first layer behind a node."""
    readers = consumers_of_values(model)
    while node is not None and node.name not in chosen:
        node = next(iter(readers.get(node.output[0], [])), None)
    return node.name if node is not None else ""
