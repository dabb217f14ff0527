"""The layers of a traced network: convolutions, linear layers and joins, with what they read and their sizes."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from paredown.models.network.nodes import (
    fused_output_node,
    module_attribute,
    module_of,
    operator_name,
    pixel_count,
    source_node,
)


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
    """Layers whose output channels can only be removed together.

    `name` is the first of `outputs`, the layers that produce the `width` channels; `inputs` are the layers that read
    them. Depthwise convolutions stand in `outputs`: their channels follow their input.
    """

    name: str
    width: int
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]


def read_layers(graph: GraphModule, module: nn.Module) -> tuple[Layer, ...]:
    """The layers of a traced network in the order of execution; `module` holds their modules by name.

    Layers are calls of a Conv2d, and of a Linear module on (N, C), that is called once with its own weight and bias;
    and additions of two computed maps or vectors. All else stays as it is: see `fixed_layers.py`.
    """
    plain = plain_layers(graph, module)
    return tuple(
        _weighted(node, plain[node], module) if node in plain else _join(node)
        for node in graph.graph.nodes
        if node in plain or _joins(node)
    )


def is_weighted(node: Node) -> bool:
    return operator_name(node) in ("conv2d", "linear")


def weight_module(node: Node) -> str:
    """The path of the module whose `weight` a convolution or linear node reads; empty where that is computed."""
    path, _, name = module_attribute(node.args[1]).rpartition(".")
    return path if name == "weight" else ""


def plain_layers(graph: GraphModule, module: nn.Module) -> dict[Node, str]:
    """The nodes that are calls of a Conv2d or Linear module as it is, once for every image, with its name."""
    weighted = [node for node in graph.graph.nodes if is_weighted(node)]
    uses = Counter(id(_attribute(module, node.args[1])) for node in weighted)
    images = next(node for node in graph.graph.nodes if node.op == "placeholder")
    return {
        node: weight_module(node)
        for node in weighted
        if uses[id(_attribute(module, node.args[1]))] == 1
        and str(_shape(node)[0]) == str(_shape(images)[0])  # else its rows are tokens or windows of images
        and _is_plain(node, module)
    }


def _is_plain(node: Node, module: nn.Module) -> bool:
    """Whether a convolution or linear node computes what its module alone says, on (N, C, H, W) or (N, C)."""
    name = weight_module(node)
    layer = module.get_submodule(name) if name else None
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return False
    operator, axes = ("conv2d", 4) if isinstance(layer, nn.Conv2d) else ("linear", 2)
    bias = module_attribute(node.args[2]) if len(node.args) > 2 else ""
    channels_in, channels_out, _, _ = _sizes(layer)
    return (
        operator_name(node) == operator
        and bias == (f"{name}.bias" if layer.bias is not None else "")
        and len(_shape(node)) == axes
        and (_shape(node.args[0])[1], _shape(node)[1]) == (channels_in, channels_out)
    )


def _shape(node: object) -> torch.Size:
    """The shape of what a node computes, its batch size a symbol."""
    assert isinstance(node, Node)
    shape: torch.Size = node.meta["val"].shape
    return shape


def _attribute(module: nn.Module, node: object) -> object:
    """The parameter that a node reads; the node itself where that is computed."""
    path, _, name = module_attribute(node).rpartition(".")
    return getattr(module.get_submodule(path), name, node) if name else node


def _joins(node: Node) -> bool:
    """Whether a node adds two computed values of one shape per image, maps or vectors."""
    computed = [arg for arg in node.args[:2] if isinstance(arg, Node) and arg.op in ("call_function", "placeholder")]
    if operator_name(node) != "add" or len(computed) < 2:
        return False
    values = [arg.meta.get("val") for arg in computed]
    return all(isinstance(value, Tensor) for value in values) and node.meta["val"].ndim in (2, 4)


def _weighted(node: Node, name: str, module: nn.Module) -> Layer:
    layer, read = module.get_submodule(name), source_node(node.args[0])
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    channels_in, channels_out, kernel, groups = _sizes(layer)
    return Layer(
        name=name,
        op="conv" if isinstance(layer, nn.Conv2d) else "linear",
        inputs=(read.name,),
        value=node.name,
        output=fused_output_node(node).name,
        channels_in=channels_in,
        channels_out=channels_out,
        kernel=kernel,
        groups=groups,
        pixels_in=pixel_count(read),
        pixels_out=pixel_count(node),
        module=name,
    )


def _sizes(layer: nn.Conv2d | nn.Linear) -> tuple[int, int, int, int]:
    """Channels in and out, elements of a kernel, and groups."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, 1, 1
    return layer.in_channels, layer.out_channels, layer.kernel_size[0] * layer.kernel_size[1], layer.groups


def _join(node: Node) -> Layer:
    channels, pixels = int(node.meta["val"].shape[1]), pixel_count(node)
    return Layer(
        name=node.name,
        op="add",
        inputs=tuple(source_node(arg).name for arg in node.args[:2]),
        value=node.name,
        output=fused_output_node(node).name,
        channels_in=channels,
        channels_out=channels,
        kernel=1,
        groups=1,
        pixels_in=pixels,
        pixels_out=pixels,
        module=module_of(node),
    )
