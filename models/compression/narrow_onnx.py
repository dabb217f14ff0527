"""Channels taken out of an ONNX graph: the weights and biases of the layers that make them, the weights of those that
read them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from torch import nn

from paredown.models.compression.channel_groups import alike, remove_channels
from paredown.models.network.layers import ChannelGroup, Layer
from paredown.models.network.trace import Network, channel_source
from paredown.models.onnx.edit import constant_arrays, copy_of_model, set_weight, weighted_nodes
from paredown.models.onnx.run import run_onnx
from paredown.models.onnx.value_names import noise_for

Array = NDArray[np.generic]

Weigh = Callable[[str, ChannelGroup, Array], Array]
"""A layer's weight before channels of the group that it reads are taken out: those that stay may take over what the
others did."""


def narrow_onnx(
    model: ModelProto,
    network: Network,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, Sequence[int]],
    weigh: Weigh = lambda _name, _group, weight: weight,
) -> ModelProto:
    """A copy of the graph whose groups have only the `kept` channels (by the group's name, in order); a group that is
    not named there stays whole."""
    model, constants = copy_of_model(model), constant_arrays(model)
    named = {layer.name: layer for layer in network.layers if layer.op != "add"}
    for name, node in weighted_nodes(model):
        if name in named:
            inner, outer = groups_of_layer(groups, named[name])
            narrowed = tuple(group if group and group.name in kept else None for group in (inner, outer))
            _slice(model, node, named[name], (narrowed[0], narrowed[1]), kept, weigh, constants)
    for node in model.graph.node:
        if node.op_type == "PRelu" and node.input[1] in constants:
            making = _making(groups, channel_source(network, node.input[0]))
            _slice_slopes(model, node, making if making and making.name in kept else None, kept, constants)
    del model.graph.value_info[:]
    return model


def groups_of_layer(groups: Sequence[ChannelGroup], layer: Layer) -> tuple[ChannelGroup | None, ChannelGroup | None]:
    """The groups of the channels that a convolution or linear layer reads and makes."""
    reading = next((group for group in groups if layer.name in group.inputs), None)
    making = _making(groups, layer.name)
    return (making, making) if layer.depthwise else (reading, making)


def _making(groups: Sequence[ChannelGroup], layer: str) -> ChannelGroup | None:
    return next((group for group in groups if layer in group.outputs), None)


def _slice_slopes(
    model: ModelProto,
    node: NodeProto,
    group: ChannelGroup | None,
    kept: Mapping[str, Sequence[int]],
    constants: Mapping[str, Array],
) -> None:
    """Of a PRelu with a slope per channel those of the channels that stay."""
    slopes = constants[node.input[1]]
    if group and slopes.size == group.width:
        axis = slopes.shape.index(group.width)
        set_weight(model, node.input[1], slopes.take(list(kept[group.name]), axis))


def _slice(
    model: ModelProto,
    node: NodeProto,
    layer: Layer,
    sides: tuple[ChannelGroup | None, ChannelGroup | None],
    kept: Mapping[str, Sequence[int]],
    weigh: Weigh,
    constants: Mapping[str, Array],
) -> None:
    (inner, outer), weight = sides, constants[node.input[1]]
    if outer:
        weight = weight[list(kept[outer.name])]
    if inner and not layer.depthwise:
        weight = weigh(layer.name, inner, weight)[:, list(kept[inner.name])]
    set_weight(model, node.input[1], weight)
    if outer and len(node.input) > 2:
        set_weight(model, node.input[2], constants[node.input[2]][list(kept[outer.name])])
    for attribute in node.attribute:
        if attribute.name == "group" and outer and layer.depthwise:
            attribute.i = len(weight)


def narrows_alike(network: Network, unfolded: nn.Module, model: ModelProto, groups: Sequence[ChannelGroup]) -> bool:
    """Whether folded module, the module as it was before (`unfolded`) and ONNX graph compute the same without every
    other channel of the groups."""
    kept = {group.name: range(0, group.width, 2) for group in groups}
    images = noise_for(model)
    narrowed = narrow_onnx(model, network, groups, kept)
    try:
        with torch.no_grad():
            expected = remove_channels(network.module, network.shape, kept).eval()(images)
            trained = remove_channels(unfolded, network.shape, kept).eval()(images)
        (exported,) = run_onnx(narrowed, images.numpy()).values()
    except Exception:  # what torch-pruning, the module or onnxruntime say to fewer channels is no matter
        return False
    return alike(trained, expected, 1e-3) and alike(torch.tensor(exported), expected, 1e-3)
