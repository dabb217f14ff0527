"""The original and every replacement of its blocks in one network, from which a plan's own network is cut.

Each block computes itself and, beside it, all replacements from the same input; `JoinedBranches` joins them. In the
trace and in ONNX the join is then wired to the branch that was picked, and what nothing reads falls away. The layers
that are left keep their names, so the sites, ranges and weights of a plan's network are those of the whole.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType

import torch
from onnx import ModelProto, NodeProto
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from paredown.models.network.layers import read_layers
from paredown.models.network.nodes import module_of, remove_dead_nodes
from paredown.models.network.trace import Network

KEEP = "keep"
"""The candidate that leaves a block as it is."""

MERGED = "merged_"
"""Starts the names of candidates that compute what their block and the next one compute together."""

ABSORBED = "absorbed"
"""The candidate of that next block: nothing, as the block before does its work."""

Picks = Mapping[str, str]
"""Block to candidate; blocks that are not named stay."""

Replacements = Mapping[str, Mapping[str, nn.Module]]
"""Block to candidate to the module that would stand in its place."""


class JoinedBranches(nn.Module):
    """Joins branches of one shape. What it computes is never used: it makes their channels one group."""

    def forward(self, kept: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            kept = torch.maximum(kept, other)
        return kept


class Replacement(nn.Module):
    """What replaced a block, its layers named as they are in the supernet."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.instead = nn.ModuleDict({name: module})

    def forward(self, x: Tensor, *_: object, **_named: object) -> Tensor:
        """Of what the block is called with, only the feature map counts: a block that read more is none."""
        for module in self.instead.values():
            x = module(x)
        return x


def attach_replacements(module: nn.Module, replacements: Replacements) -> nn.Module:
    """A copy of `module` whose blocks, named by their path, compute their replacements beside themselves."""
    module = copy.deepcopy(module)
    for name, candidates in replacements.items():
        block = module.get_submodule(name)
        block.instead = nn.ModuleDict(copy.deepcopy(dict(candidates)))
        block.either = JoinedBranches()
        block.forward = MethodType(_branching, block)
    return module.eval()


def _branching(self: nn.Module, x: Tensor, *more: object, **named: object) -> Tensor:
    """`more` is what some blocks are called with beside the feature map: an option, or the same map once more."""
    kept = type(self).forward(_without_branches(self), x, *more, **named)
    joined: Tensor = self.either(kept, *(module(x) for module in self.instead.values()))  # type: ignore[operator]
    return joined


def _without_branches(block: nn.Module) -> nn.Module:
    """The block as it was, its modules shared: one that runs all of its children in turn would run the branches too."""
    bare = copy.copy(block)
    children = {name: child for name, child in block.named_children() if name not in ("instead", "either")}
    bare.__dict__["_modules"] = children
    return bare


def pick_branch(module: nn.Module, replacements: Replacements, picks: Picks) -> nn.Module:
    """A copy of `module` with the picked replacements in place of its blocks."""
    module = copy.deepcopy(module)
    for block, name in picks.items():
        if name != KEEP:
            module.set_submodule(block, Replacement(name, copy.deepcopy(replacements[block][name])))
    return module


@dataclass(frozen=True)
class Branch:
    """A block of the supernet: the value that each candidate computes, `keep` first, and the `join` of them all."""

    block: str
    values: Mapping[str, str]
    join: str

    def candidate(self, module: str) -> str | None:
        """The candidate that a module (by its path) belongs to; None outside of the block."""
        if not (module == self.block or module.startswith(f"{self.block}.")):
            return None
        inner = module.removeprefix(f"{self.block}.")
        return inner.split(".")[1] if inner.startswith("instead.") else KEEP


def find_branches(graph: GraphModule, module: nn.Module) -> tuple[Branch, ...]:
    """The blocks of a traced supernet, in order."""
    last: dict[str, Node] = {}
    for node in graph.graph.nodes:
        path = module_of(node)
        if path.endswith(".either") and isinstance(module.get_submodule(path), JoinedBranches):
            last[path.removesuffix(".either")] = node
    return tuple(_branch(block, join, module.get_submodule(block)) for block, join in last.items())


def _branch(block: str, join: Node, module: nn.Module) -> Branch:
    values: list[str] = []
    node = join
    while len(values) < len(module.instead):  # type: ignore[arg-type]
        values.insert(0, str(node.args[1]))
        node = node.args[0]  # type: ignore[assignment]
    names = [KEEP, *module.instead]  # type: ignore[misc]
    return Branch(block, dict(zip(names, [node.name, *values], strict=True)), join.name)


def select_branches(network: Network, branches: tuple[Branch, ...], picks: Picks) -> Network:
    """The network of a plan, cut from the supernet's trace; it shares the parameters of the whole."""
    fresh, copies = Graph(), dict[Node, Node]()
    output = fresh.graph_copy(network.graph.graph, copies)
    assert isinstance(output, Node)
    fresh.output(output)
    nodes = {node.name: node for node in fresh.nodes}
    for branch in branches:
        picked = nodes[branch.values[picks.get(branch.block, KEEP)]]
        nodes[branch.join].replace_all_uses_with(picked)
        nodes[branch.join] = picked
    remove_dead_nodes(fresh)
    graph = GraphModule(network.graph, fresh)
    names = {layer.name for layer in network.layers if layer.op != "add"}  # a layer shared with a branch that is gone
    layers = [layer for layer in read_layers(graph, network.module) if layer.op == "add" or layer.name in names]
    return Network(network.module, graph, tuple(layers), network.shape, network.fixed)


def select_branches_onnx(model: ModelProto, branches: tuple[Branch, ...], picks: Picks) -> ModelProto:
    """The same cut from the supernet's ONNX graph."""
    wired = {branch.join: branch.values[picks.get(branch.block, KEEP)] for branch in branches}
    wanted = {value.name for value in model.graph.output}
    nodes: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            nodes.insert(0, _rewired(node, wired))
            wanted |= set(nodes[0].input)
    fresh = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    fresh.opset_import.extend(model.opset_import)
    fresh.graph.name = model.graph.name
    fresh.graph.node.extend(nodes)
    fresh.graph.input.extend(model.graph.input)
    fresh.graph.output.extend(model.graph.output)
    fresh.graph.initializer.extend(item for item in model.graph.initializer if item.name in wanted)
    fresh.graph.value_info.extend(item for item in model.graph.value_info if item.name in wanted)
    return fresh


def _rewired(node: NodeProto, wired: Mapping[str, str]) -> NodeProto:
    fresh = NodeProto()
    fresh.CopyFrom(node)
    for index, value in enumerate(node.input):
        while value in wired:
            value = wired[value]
        fresh.input[index] = value
    return fresh
