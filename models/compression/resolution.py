"""A smaller input: the network's first operation shrinks the image, in a module, in a trace and in an ONNX graph.

Bilinear without antialiasing: torch, onnxruntime and OpenVINO agree on it to 1e-4. With antialiasing they do not, and
down to half the side every pixel still counts.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.nn.functional import interpolate

from paredown.models.compression.channel_groups import alike
from paredown.models.errors import InputError
from paredown.models.network.nodes import operator_name
from paredown.models.network.trace import Network
from paredown.models.network.watch import watch_values
from paredown.models.onnx.edit import copy_of_model, set_weight, value_shapes
from paredown.models.onnx.run import run_onnx
from paredown.models.onnx.value_names import noise_for

SHRUNK = "shrunk"
"""The value in ONNX that the network reads in place of its input."""


def shrink_image(maps: Tensor, size: Iterable[int]) -> Tensor:
    """(N, C, H, W) to the height and width in `size`."""
    return interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class ShrinkImage:
    """A hook before a module: it reads its images with `side` x `side` pixels."""

    side: int

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return shrink_image(args[0], (self.side, self.side)), *args[1:]


def shrink_before(module: nn.Module, side: int) -> nn.Module:
    """The module itself, from now on with `ShrinkImage` before it; no parameter or submodule gets another name."""
    module.register_forward_pre_hook(ShrinkImage(side))
    return module


def shrink_trace(graph: GraphModule, side: int) -> GraphModule:
    """The trace behind a shrunk image; it shares the parameters of the given one.

    The shrunk image is called what the input was called: it is what the layers read, and what is rounded for them.
    """
    fresh, copies = Graph(), dict[Node, Node]()
    read = next(node for node in graph.graph.nodes if node.op == "placeholder")
    args = (fresh.placeholder("image"), [side, side], False, None)
    copies[read] = fresh.create_node("call_function", torch.ops.aten.upsample_bilinear2d.vec, args, name=read.name)
    output = fresh.graph_copy(graph.graph, copies)
    assert isinstance(output, Node)
    fresh.output(output)
    return GraphModule(graph, fresh)


def shrink_onnx(model: ModelProto, side: int) -> ModelProto:
    """The same in an ONNX graph, whose input stays as it is declared; shapes by name are left to be inferred again."""
    model = copy_of_model(model)
    image = model.graph.input[0]
    batch, channels = value_shapes(model)[image.name][:2]
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            if value == image.name:
                node.input[index] = SHRUNK
    set_weight(model, f"{SHRUNK}.sizes", np.array([batch, channels, side, side], np.int64))
    node = helper.make_node("Resize", [image.name, "", "", f"{SHRUNK}.sizes"], [SHRUNK], name=SHRUNK, mode="linear")
    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "half_pixel"))
    model.graph.node.insert(0, node)
    del model.graph.value_info[:]
    return model


@lru_cache(maxsize=64)
def layer_pixels(network: Network, side: int) -> dict[str, tuple[int, int]]:
    """Layer to its pixels (in, out), each height x width, where images are `side` x `side`."""
    sizes, _ = _run(network.graph, _images(network, side))
    count = {name: math.prod(size[2:]) if len(size) == 4 else 1 for name, size in sizes.items()}
    reads = {layer.name: layer.value if layer.op == "add" else layer.inputs[0] for layer in network.layers}
    return {layer.name: (count[reads[layer.name]], count[layer.value]) for layer in network.layers}


def computes_alike(network: Network, model: ModelProto, side: int) -> bool:
    """Whether module, trace and ONNX graph all compute the same from images of `side` x `side`.

    They do not where a size of the original's maps is written into them: a view, a pooling window, padding to "same".
    """
    images = _images(network, side)
    if any(map(_pools_adaptively, network.graph.graph.nodes)):
        return False
    try:
        sizes, logits = _run(network.graph, images)
        with torch.no_grad():
            expected = network.module(images)
        shrunk = shrink_onnx(model, side)
        written = value_shapes(onnx.shape_inference.infer_shapes(shrunk, strict_mode=True))
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return False
    same = logits.shape == expected.shape and torch.allclose(logits, expected, rtol=1e-3, atol=1e-4)
    both = written.keys() & sizes.keys() - {model.graph.input[0].name}
    fits = same and all(written[name][1:] == sizes[name][1:] for name in both)
    return fits and _exported_alike(network, shrunk, side)


def _exported_alike(network: Network, shrunk: ModelProto, side: int) -> bool:
    """Whether the graph that shrinks its image to `side` computes what the module does: sizes that are written into it,
    such as those of padding, need not show in any shape."""
    images = noise_for(shrunk)
    with torch.no_grad():
        expected = network.module(shrink_image(images, (side, side)))
    try:
        (computed,) = run_onnx(shrunk, images.numpy()).values()
    except InputError:  # onnxruntime refuses what does not fit together
        return False
    return alike(torch.tensor(computed), expected, 1e-3)


def _pools_adaptively(node: Node) -> bool:
    """Whether it pools to several pixels: the exporter writes windows or indices for the size that it sees, which does
    not show in any shape."""
    return operator_name(node).startswith("adaptive_") and set(node.args[1]) != {1}  # type: ignore[arg-type]


def _images(network: Network, side: int) -> Tensor:
    """Two images of noise, so that it shows where one is taken for a part of the other."""
    return torch.randn(2, network.shape[0], side, side, generator=torch.Generator().manual_seed(0))


def _run(graph: GraphModule, images: Tensor) -> tuple[dict[str, tuple[int, ...]], Tensor]:
    """Every value's shape, and the logits."""
    sizes: dict[str, tuple[int, ...]] = {}

    def note(name: str, value: Tensor) -> None:
        sizes[name] = tuple(value.shape)

    with torch.no_grad():
        logits = watch_values(graph, images, note)
    return sizes, logits
