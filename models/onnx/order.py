"""Puts the nodes of a graph in an order in which every value is made before it is read."""

import heapq
from collections.abc import Sequence

from onnx import GraphProto, ModelProto, NodeProto

from paredown.models.onnx.walk import all_graphs, inner_graphs, nodes_of


def sort_model(model: ModelProto) -> None:
    """Sorts the nodes of all graphs and functions, in place; runtimes take them in any order, all else goes by it. What
    is sorted, and what has a cycle, stays as it is."""
    for holder in (
        *reversed(list(all_graphs(model))),
        *model.functions,
    ):  # inner ones before those they are copied with
        order = sorted_places(holder.node)
        if order and order != list(range(len(order))):
            nodes = list[NodeProto]()
            for place in order:
                nodes.append(NodeProto())
                nodes[-1].CopyFrom(holder.node[place])
            del holder.node[:]
            holder.node.extend(nodes)


def sorted_places(nodes: Sequence[NodeProto]) -> list[int]:
    """The places of nodes in a sound order, as near to theirs as can be; empty where there is a cycle."""
    maker = {value: place for place, node in enumerate(nodes) for value in node.output if value}
    needs = [{maker[value] for value in _read(node) if value in maker} for node in nodes]
    waiting = [len(some) for some in needs]
    behind = [list[int]() for _ in nodes]
    for place, some in enumerate(needs):
        for before in some:
            behind[before].append(place)
    ready, order = [place for place, count in enumerate(waiting) if not count], list[int]()
    while ready:
        order.append(heapq.heappop(ready))
        for place in behind[order[-1]]:
            waiting[place] -= 1
            if not waiting[place]:
                heapq.heappush(ready, place)
    return order if len(order) == len(nodes) else []


def _read(node: NodeProto) -> set[str]:
    """The values that a node reads, also in the graphs inside of it."""
    return {*node.input, *(value for graph in inner_graphs(node) for value in _read_inside(graph))}


def _read_inside(graph: GraphProto) -> set[str]:
    """The values that a graph takes from around it."""
    inside = {value for node in nodes_of(graph.node) for value in node.output}
    read = {value for node in nodes_of(graph.node) for value in node.input}
    return (read | {value.name for value in graph.output}) - inside
