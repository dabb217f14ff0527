"""Folds and traces a classifier: a graph whose values are called the same in torch and in ONNX.

A module is folded (batch norm into the convolution before it), traced with torch.export and made functional. The
names that the trace gives to values are the names that the ONNX exporter gives them, and parameters keep their
qualified names, so a layer or a value of the one is there under its name in the other.
"""

import io
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Target, map_arg
from torch.fx.node import _side_effectful_need_to_be_preserved_pre_dispatch as _recorded_modes

from paredown.models.errors import InputError, first_line
from paredown.models.loading.code_places import fault_of, user_place
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.network.chance import refuse_chance
from paredown.models.network.fixed_layers import FixedLayer, read_fixed_layers
from paredown.models.network.layers import Layer, read_layers
from paredown.models.network.nodes import operator_name, pixel_count, remove_dead_nodes
from paredown.models.network.shape import Shape, device_of
from paredown.models.network.weak_cache import remembered_per_object


@dataclass(frozen=True, eq=False)
class Network:
    """A folded network in evaluation mode, its trace, and its layers in the order of execution; the `fixed` ones are
    none of them, and stay as they are."""

    module: nn.Module
    graph: GraphModule
    layers: tuple[Layer, ...]
    shape: Shape
    fixed: tuple[FixedLayer, ...] = ()

    def layer(self, name: str) -> Layer:
        """Raises StopIteration for a name that no layer has."""
        return next(layer for layer in self.layers if layer.name == name)


def analyse_network(module: nn.Module, shape: Shape) -> Network:
    """The folded, traced network of a classifier that reads images of `shape`; the given module is left untouched.

    Raises InputError where torch.export cannot trace the module, and where it draws random numbers.
    """
    folded = fold_batch_norm(module, shape)
    graph = functional_graph(trace_module(folded, shape))
    layers, fixed = read_layers(graph, folded), read_fixed_layers(graph, folded)
    return Network(folded, graph, layers, shape, fixed)


def trace_module(module: nn.Module, shape: Shape) -> ExportedProgram:
    """The module's trace with a free batch size.

    Raises InputError where torch.export cannot make one, and where the module draws random numbers.
    """
    example = torch.zeros(2, *shape, device=device_of(module))
    try:
        with _quiet(), plain_modes():
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:
        raise InputError(f"the model cannot be traced by torch.export at {shape}: {_reason(error)}") from error
    refuse_chance(program.graph)
    return program


def _reason(error: Exception) -> str:
    if "data-dependent" in str(error):
        return f"its code branches on values that it computes ({user_place(error) or first_line(error)})"
    if "Constraints violated (batch)" in str(error):
        return "its code fixes the number of images in a batch, as len(x) and view(1, -1) do; x.shape[0] leaves it free"
    return fault_of(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch writes about graphs that it cannot make, and what the user's code prints."""
    disabled, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def plain_modes() -> Iterator[None]:
    """For a trace: `torch.autocast` does nothing, and `torch.no_grad` is not recorded. What the user's code does within
    them would be one opaque value of the trace otherwise."""
    enter, leave, recorded = torch.autocast.__enter__, torch.autocast.__exit__, list(_recorded_modes)
    torch.autocast.__enter__, torch.autocast.__exit__ = _itself, _nothing  # type: ignore[method-assign]
    _recorded_modes.remove(torch._C._set_grad_enabled)
    try:
        yield
    finally:
        torch.autocast.__enter__, torch.autocast.__exit__ = enter, leave  # type: ignore[method-assign]
        _recorded_modes[:] = recorded


def _itself(mode: torch.autocast) -> torch.autocast:
    return mode


def _nothing(_mode: torch.autocast, *_error: object) -> bool:
    return False


def functional_graph(program: ExportedProgram) -> GraphModule:
    """The traced graph without in-place operations, its values named as the ONNX exporter names them.

    The exporter numbers the values of each operator in order (`conv2d`, `conv2d_1`, ...) after it has made in-place
    operators functional; its own decompositions do the same but take ten times as long with a free batch size.
    """
    traced = program.module(check_guards=False)
    assert isinstance(traced, GraphModule)
    graph, copies, seen = Graph(), dict[Node, Node](), Counter[str]()
    logits = _returned(traced)
    for node in traced.graph.nodes:
        name = "logits" if node is logits else _value_name(node, seen)
        inputs = ((logits,), {}) if node.op == "output" else (node.args, node.kwargs)
        args, kwargs = map_arg(inputs, lambda old: copies[old])
        copies[node] = graph.create_node(node.op, _functional_target(node), args, kwargs, name=name)
        copies[node].meta = node.meta
    remove_dead_nodes(graph)  # what only served outputs that are not the logits
    return GraphModule(traced, graph)


def _returned(graph: GraphModule) -> Node:
    """The one tensor that a classifier returns."""
    value = next(node for node in reversed(graph.graph.nodes) if node.op == "output").args[0]
    values = list(value) if isinstance(value, list | tuple) else [value]
    if len(values) != 1 or not isinstance(values[0], Node):
        raise InputError(f"the model returns {len(values)} values; a classifier returns one tensor of logits")
    return values[0]


def _value_name(node: Node, seen: Counter[str]) -> str:
    if node.op == "placeholder":
        return "x"
    if node.op != "call_function":
        return node.name
    base = operator_name(node).removesuffix("_") or node.name
    base = "mean" if base == "adaptive_avg_pool2d" and pixel_count(node) == 1 else base
    seen[base] += 1
    return base if seen[base] == 1 else f"{base}_{seen[base] - 1}"


def _functional_target(node: Node) -> Target:
    """`aten.relu` for `aten.relu_`."""
    name = operator_name(node)
    if not name.endswith("_"):
        return node.target
    overload = getattr(node.target, "_overloadname", "default")
    return cast(Target, getattr(getattr(torch.ops.aten, name[:-1]), overload))


@remembered_per_object
def channel_source(network: Network, value: str) -> str:
    """The weighted layer that made the channels of a value, through joins along what they read first; empty where
    several made them together, or what is between changes their number."""
    weighted = {item.value: item for item in network.layers if item.op != "add"}
    first = node = next((n for n in network.graph.graph.nodes if n.name == value), None)
    if first is None or node is None:
        return ""
    while node.name not in weighted and node.op == "call_function" and operator_name(node) != "cat":
        if not node.all_input_nodes:
            return ""
        node = node.all_input_nodes[0]
    made = weighted.get(node.name)
    return made.name if made is not None and _channels(first) == made.channels_out else ""


def _channels(node: Node) -> int:
    """The size of a value's second axis; 0 where it has none."""
    value = node.meta.get("val")
    return int(value.shape[1]) if isinstance(value, Tensor) and value.ndim > 1 else 0
