"""The network as a graph: its layers, how they are joined, and the same names in torch and in ONNX.

A module is folded (batch norm into the convolution before it), traced with torch.export and made functional. The
names that the trace gives to values are the names that the ONNX exporter gives them, and parameters keep their
qualified names, so a layer or a value found in one world is found by name in the other.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Target, map_arg

from paredown.models.errors import InputError, first_line
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.network.shape import Shape, device_of
from paredown.models.network.weak_cache import remembered_per_object

FUSED = {"relu", "hardtanh", "clamp"}
"""Activations that runtimes compute inside the layer before them."""

PASSING = {"view", "flatten", "reshape", "dropout", "clone", "contiguous", "max_pool2d", "alias", "pad"}
"""Operations whose output has the range of their input."""


@dataclass(frozen=True)
class Layer:
    """A convolution, a linear layer or a join (`add`) of the traced network.

    `name` is the module's qualified name (for an add: the value's name), `inputs` the values it reads, `value` what
    it computes and `output` that value after a fused activation. `pixels_in` and `pixels_out` are height x width.
    `module` is the path of the module whose code computes it: for a weighted layer its name.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    value: str
    output: str
    channels_in: int
    channels_out: int
    kernel: int
    groups: int
    pixels_in: int
    pixels_out: int
    module: str = ""

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.channels_in


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels live and die together.

    `name` is the first of `outputs`, the layers that produce the `width` channels; `inputs` are the layers that read
    them. Depthwise convolutions stand in `outputs`: their channels follow their input.
    """

    name: str
    width: int
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A folded network in evaluation mode, its trace, and its layers in the order of execution."""

    module: nn.Module
    graph: GraphModule
    layers: tuple[Layer, ...]
    shape: Shape

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)


def analyse(module: nn.Module, shape: Shape) -> Network:
    """Fold, trace and read a classifier. The given module is left untouched.

    Raises InputError where torch.export cannot trace the module, or where a layer is called more than once.
    """
    folded = fold_batch_norm(module, shape)
    graph = functional(trace(folded, shape))
    layers = read_layers(graph, folded)
    twice = [name for name, calls in Counter(layer.name for layer in layers).items() if calls > 1]
    if twice:
        raise InputError(f"the model calls its layer '{twice[0]}' more than once; every layer must be called once")
    return Network(folded, graph, layers, shape)


def trace(module: nn.Module, shape: Shape) -> ExportedProgram:
    """The module's trace with a free batch size."""
    example = torch.zeros(2, *shape, device=device_of(module))
    try:
        return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:
        raise InputError(f"the model cannot be traced by torch.export at {shape}: {first_line(error)}") from error


def functional(program: ExportedProgram) -> GraphModule:
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
    base = operator(node).removesuffix("_") or node.name
    base = "mean" if base == "adaptive_avg_pool2d" and _pixels(node) == 1 else base
    seen[base] += 1
    return base if seen[base] == 1 else f"{base}_{seen[base] - 1}"


def _functional_target(node: Node) -> Target:
    """`aten.relu` for `aten.relu_`."""
    name = operator(node)
    if not name.endswith("_"):
        return node.target
    overload = getattr(node.target, "_overloadname", "default")
    return cast(Target, getattr(getattr(torch.ops.aten, name[:-1]), overload))


def operator(node: object) -> str:
    """`conv2d` for a call of aten.conv2d.default; empty for everything that is not an ATen call."""
    if not isinstance(node, Node) or node.op != "call_function":
        return ""
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet).rpartition(".")[2] if packet is not None else ""


def attribute(node: object) -> str:
    """The qualified name that a get_attr node reads."""
    return str(node.target) if isinstance(node, Node) and node.op == "get_attr" else ""


def fused_output(node: Node) -> Node:
    """The node itself, or the fused activation that is all that reads it."""
    users = list(node.users)
    return users[0] if len(users) == 1 and operator(users[0]) in FUSED else node


def source(value: object) -> Node:
    """The node that really computed a value, behind reshapes and the like."""
    assert isinstance(value, Node)
    return source(value.args[0]) if operator(value) in PASSING else value


def read_layers(graph: GraphModule, module: nn.Module) -> tuple[Layer, ...]:
    """The layers of a traced network in the order of execution; `module` holds their modules by name."""
    return tuple(_layers(graph, module))


def _layers(graph: GraphModule, module: nn.Module) -> Iterator[Layer]:
    for node in graph.graph.nodes:
        if operator(node) in ("conv2d", "linear"):
            yield _weighted(node, module)
        elif operator(node) == "add" and all(isinstance(arg, Node) for arg in node.args[:2]):
            yield _join(node)


def _weighted(node: Node, module: nn.Module) -> Layer:
    name = attribute(node.args[1]).rpartition(".")[0]
    layer, read = module.get_submodule(name), source(node.args[0])
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise InputError(f"the weight of '{node.name}' is not that of a Conv2d or Linear module, which layers must be")
    channels_in, channels_out, kernel, groups = _sizes(layer)
    return Layer(
        name=name,
        op="conv" if isinstance(layer, nn.Conv2d) else "linear",
        inputs=(read.name,),
        value=node.name,
        output=fused_output(node).name,
        channels_in=channels_in,
        channels_out=channels_out,
        kernel=kernel,
        groups=groups,
        pixels_in=_pixels(read),
        pixels_out=_pixels(node),
        module=name,
    )


def _sizes(layer: nn.Conv2d | nn.Linear) -> tuple[int, int, int, int]:
    """Channels in and out, elements of a kernel, and groups."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, 1, 1
    return layer.in_channels, layer.out_channels, layer.kernel_size[0] * layer.kernel_size[1], layer.groups


def _join(node: Node) -> Layer:
    channels, pixels = int(node.meta["val"].shape[1]), _pixels(node)
    return Layer(
        name=node.name,
        op="add",
        inputs=tuple(source(arg).name for arg in node.args[:2]),
        value=node.name,
        output=fused_output(node).name,
        channels_in=channels,
        channels_out=channels,
        kernel=1,
        groups=1,
        pixels_in=pixels,
        pixels_out=pixels,
        module=module_of(node),
    )


def module_of(node: Node) -> str:
    """The path of the module whose code made a node; empty for the outermost one."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


@remembered_per_object
def channel_source(network: Network, value: str) -> str:
    """The weighted layer that made the channels of a value, through joins along what they read first; empty where
    several made them together."""
    weighted = {item.value: item.name for item in network.layers if item.op != "add"}
    node = next(n for n in network.graph.graph.nodes if n.name == value)
    while node.name not in weighted and node.op == "call_function" and operator(node) != "cat":
        node = node.all_input_nodes[0]
    return weighted.get(node.name, "")


def _pixels(node: Node) -> int:
    shape = node.meta["val"].shape
    return int(shape[2]) * int(shape[3]) if len(shape) == 4 else 1
