"""A shrunk input: the same in module, trace and ONNX, and refused where a size is written into the network."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from paredown.models.compression.resolution import (
    SHRUNK,
    computes_alike,
    layer_pixels,
    shrink_before,
    shrink_image,
    shrink_onnx,
    shrink_trace,
)
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import constant_arrays, set_weight, value_shapes
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.prepared_model import PreparedModel

IMAGES = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_half_the_side_is_the_mean_of_four_pixels() -> None:
    maps = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(shrink_image(maps, (4, 4)), nn.functional.avg_pool2d(maps, 2))


def test_a_module_keeps_its_names_and_its_input(net: nn.Module) -> None:
    names = list(net.state_dict())
    with torch.no_grad():
        expected = net(shrink_image(IMAGES, (16, 16)))
        module = copy.deepcopy(shrink_before(net, 16))
        assert torch.equal(module(IMAGES), expected)
    assert list(module.state_dict()) == names
    assert analyse_network(module, (3, 24, 24)).shape == (3, 24, 24)


def test_a_trace_reads_the_shrunk_image_under_the_inputs_name(prepared: PreparedModel) -> None:
    graph, plain = shrink_trace(prepared.network.graph, 16), prepared.network.graph
    with torch.no_grad():
        assert torch.equal(graph(IMAGES), plain(shrink_image(IMAGES, (16, 16))))
    assert {node.name for node in graph.graph.nodes} == {node.name for node in plain.graph.nodes} | {"image"}
    assert next(node for node in graph.graph.nodes if node.name == "x").op == "call_function"
    assert graph.get_parameter("fc.weight") is plain.get_parameter("fc.weight")


def test_a_file_declares_what_it_did_and_computes_on_less(prepared: PreparedModel) -> None:
    model = shrink_onnx(prepared.model, 16)
    onnx.checker.check_model(model, full_check=True)
    known = value_shapes(onnx.shape_inference.infer_shapes(model))
    assert known["x"] == (1, 3, 24, 24)
    assert known[SHRUNK] == (1, 3, 16, 16)
    assert known["conv2d"] == (1, 16, 8, 8)
    assert [node.op_type for node in model.graph.node if "x" in node.input] == ["Resize"]


def test_pixels_of_layers_are_those_of_the_smaller_maps(prepared: PreparedModel) -> None:
    whole = {layer.name: (layer.pixels_in, layer.pixels_out) for layer in prepared.network.layers}
    assert layer_pixels(prepared.network, 24) == whole
    found = layer_pixels(prepared.network, 20)  # maps of 20, 10 and 5
    assert found["stem.0"] == (400, 100)
    assert found["add"] == (100, 100)
    assert found["depthwise"] == (100, 25)
    assert found["fc"] == whole["fc"] == (1, 1)


class Ends(nn.Module):
    """A convolution, and an end that may know how large its map is."""

    def __init__(self, end: str) -> None:
        super().__init__()
        pixels = {"pooled": 4, "uneven": 25, "wide": 144}.get(end, 1)
        self.end, self.conv, self.fc = end, nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8 * pixels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x)
        ends = {
            "mean": lambda: maps.mean((2, 3)),
            "view": lambda: maps.view(-1, 8, 144).mean(2),
            "window": lambda: nn.functional.avg_pool2d(maps, 12).flatten(1),
            "counted": lambda: maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3]),
            "pooled": lambda: nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1),
            "uneven": lambda: nn.functional.adaptive_avg_pool2d(maps, 5).flatten(1),
            "wide": lambda: maps.flatten(1),
        }
        logits: torch.Tensor = self.fc(ends[self.end]())
        return logits


@pytest.mark.parametrize("end", ["view", "window", "counted", "pooled", "uneven", "wide"])
def test_sizes_that_are_written_into_a_network_are_found(end: str) -> None:
    """`counted` divides by the pixels that the trace was made with; `pooled` becomes a window in ONNX, `uneven` a table
    of indices."""
    network = analyse_network(Ends(end), (3, 24, 24))
    model = export_onnx(network.module, network.shape)
    assert not any(computes_alike(network, model, side) for side in (16, 20))


def test_what_only_averages_takes_any_size() -> None:
    network = analyse_network(Ends("mean"), (3, 24, 24))
    model = export_onnx(network.module, network.shape)
    assert all(computes_alike(network, model, side) for side in (8, 16, 20))


def test_a_file_that_computes_otherwise_than_the_module_is_refused_whatever_its_shapes() -> None:
    network = analyse_network(Ends("mean"), (3, 24, 24))
    model = export_onnx(network.module, network.shape)
    set_weight(model, "conv.bias", constant_arrays(model)["conv.bias"] + np.float32(0.1))
    assert not computes_alike(network, model, 16)
