"""The layers of a traced network: convolutions, linear layers and joins, with what they read and their sizes."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule, Node

from paredown.models.errors import InputError
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

    Raises InputError where a weight is that of another kind of module than Conv2d and Linear.
    """
    return tuple(_layers(graph, module))


def _layers(graph: GraphModule, module: nn.Module) -> Iterator[Layer]:
    for node in graph.graph.nodes:
        if operator_name(node) in ("conv2d", "linear"):
            yield _weighted(node, module)
        elif operator_name(node) == "add" and all(isinstance(arg, Node) for arg in node.args[:2]):
            yield _join(node)


def _weighted(node: Node, module: nn.Module) -> Layer:
    name = module_attribute(node.args[1]).rpartition(".")[0]
    layer, read = module.get_submodule(name), source_node(node.args[0])
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise InputError(f"the weight of '{node.name}' is not that of a Conv2d or Linear module, which layers must be")
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
