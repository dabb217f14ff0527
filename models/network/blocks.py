"""The blocks of a network: modules that take one feature map and return one, so that another could stand there."""

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from paredown.models.network.nodes import module_paths, operator_name
from paredown.models.network.shape import Shape
from paredown.models.network.trace import Network

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "hardtanh": nn.ReLU6,
    "clamp": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}
"""Traced operator to module."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
PLAIN = (type(None), bool, int, float, str)
"""Arguments of a block, beside its map, that hold no other map."""


@dataclass(frozen=True)
class Place:
    """Where a block stands: all that a replacement must know.

    `nonlinearity` is the one that the network itself uses there (a key of `ACTIVATIONS`); `closing` says whether the
    block ends with it.
    """

    name: str
    shape_in: Shape
    shape_out: Shape
    nonlinearity: str
    closing: bool

    def activation(self) -> nn.Module:
        """The network's own activation, as a fresh module."""
        return ACTIVATIONS[self.nonlinearity]()

    @property
    def stride(self) -> int:
        return -(-self.shape_in[1] // self.shape_out[1])

    @property
    def same_shape(self) -> bool:
        return self.shape_in == self.shape_out


def neighbours(network: Network, places: tuple[Place, ...]) -> tuple[tuple[Place, Place], ...]:
    """Pairs of blocks for which one replacement can stand: the second reads only what the first computes, nothing else
    reads that, and the second leaves the shape as it is."""
    nodes = {place.name: _nodes(network, place.name) for place in places}
    return tuple(
        (one, two)
        for one, two in pairwise(places)
        if two.same_shape and _only_between(nodes[one.name], nodes[two.name])
    )


def _only_between(first: list[Node], second: list[Node]) -> bool:
    """Whether what leaves the first nodes goes to the second ones only, and nothing else does."""
    before, behind = set(first), set(second)
    leaving = [node for node in first if any(user not in before for user in node.users)]
    read = {a for n in second for a in n.all_input_nodes if a not in behind and a.op != "get_attr"}
    return read == set(leaving) and all(user in before | behind for node in leaving for user in node.users)


def find_blocks(network: Network) -> tuple[Place, ...]:
    """The outermost modules with at least two convolutions and at most one residual addition, in order.

    Left out: plain containers, and modules that do not take one feature map to one, at a whole stride, or are called
    with more than that map.
    """
    paths = dict.fromkeys(path for node in network.graph.graph.nodes for path in module_paths(node) if path)
    blocks: dict[str, Place] = {}
    for path in sorted(paths, key=lambda p: p.count(".")):
        inside = any(path.startswith(f"{outer}.") for outer in blocks)
        if not inside and type(network.module.get_submodule(path)) not in CONTAINERS:
            place = _place(path, _nodes(network, path))
            if place is not None:
                blocks[path] = place
    alone = _called_with_one_map(network, blocks)
    return tuple(blocks[path] for path in paths if path in alone)


def _called_with_one_map(network: Network, paths: Collection[str]) -> set[str]:
    """Those modules whose first argument is a map, and whose others are no other tensors: what stands there instead is
    given the first argument. The trace does not show it: a module may get what it does not read."""
    others = set[str]()

    def watching(path: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def watch(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            maps = [value for value in (*args, *named.values()) if not isinstance(value, PLAIN)]
            if not args or not isinstance(args[0], Tensor) or any(value is not args[0] for value in maps):
                others.add(path)

        return watch

    with ExitStack() as stack, torch.no_grad():
        for path in paths:
            module = network.module.get_submodule(path)
            stack.callback(module.register_forward_pre_hook(watching(path), with_kwargs=True).remove)
        if paths:
            network.module(torch.zeros(1, *network.shape))
    return set(paths) - others


def _nodes(network: Network, path: str) -> list[Node]:
    """What the code of a module, and of the modules in it, computes."""
    return [node for node in network.graph.graph.nodes if path in module_paths(node)]


def _place(path: str, nodes: list[Node]) -> Place | None:
    """The place of a module that computes these nodes; None where it is no block."""
    counts = Counter(operator_name(node) for node in nodes)
    joins = [n for n in nodes if operator_name(n) == "add" and all(isinstance(arg, Node) for arg in n.args[:2])]
    if counts["conv2d"] < 2 or len(joins) > 1:
        return None
    inner = set(nodes)
    read = dict.fromkeys(a for n in nodes for a in n.all_input_nodes if a not in inner and a.op != "get_attr")
    leaving = [node for node in nodes if any(user not in inner for user in node.users)]
    if len(read) != 1 or len(leaving) != 1:
        return None
    values = [node.meta["val"] for node in (*read, *leaving)]
    if any(value.ndim != 4 for value in values):
        return None
    shapes = [(int(v.shape[1]), int(v.shape[2]), int(v.shape[3])) for v in values]
    if not _whole_stride(*shapes):
        return None
    used = [name for name in counts if name in ACTIVATIONS]
    return Place(
        name=path,
        shape_in=shapes[0],
        shape_out=shapes[1],
        nonlinearity=max(used, key=lambda name: counts[name], default="relu"),
        closing=operator_name(leaving[0]) in ACTIVATIONS,
    )


def _whole_stride(before: Shape, after: Shape) -> bool:
    """Height and width shrink by the same whole factor, as padded convolutions shrink them."""
    stride = -(-before[1] // after[1])
    return all(-(-old // stride) == new for old, new in zip(before[1:], after[1:], strict=True))
