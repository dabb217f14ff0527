"""Every kind of block that discovery finds builds modules that can stand in for a block, learn, and be deployed."""

from pathlib import Path

import pytest
import torch
from torch import nn

from paredown.models.compression.qdq import quantizable_nodes
from paredown.models.network.blocks import ACTIVATIONS, Place
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.export import export_onnx
from paredown.models.spec import Spec
from paredown.stages import plugins
from paredown.stages.blocks.base import replacements_for

NAMES = plugins.plugin_names("blocks")
SAME = Place("stage.0", (16, 12, 12), (16, 12, 12), "relu", True)
ENTRY = Place("stage.1", (16, 13, 13), (24, 7, 7), "silu", False)
PLACES = pytest.mark.parametrize("place", [SAME, ENTRY], ids=["same shape", "stage entry"])

pytestmark = pytest.mark.parametrize("name", NAMES)


def built(name: str, place: Place) -> dict[str, nn.Module]:
    if line := plugins.missing_requirement("blocks", name):
        pytest.skip(line)
    return replacements_for(place, {name: {}}, Path())


def test_it_is_an_options_object(name: str) -> None:
    cls = plugins.load_plugin("blocks", name)
    assert issubclass(cls, Spec)
    assert cls.model_config["frozen"]


def test_it_fits_some_place(name: str) -> None:
    assert built(name, SAME) or built(name, ENTRY)


@PLACES
def test_its_shapes_are_those_of_the_place(name: str, place: Place) -> None:
    for module in built(name, place).values():
        assert module.eval()(torch.zeros(3, *place.shape_in)).shape == (3, *place.shape_out)


@PLACES
def test_it_is_the_same_every_time_and_no_two_are_alike(name: str, place: Place) -> None:
    first, second = built(name, place), built(name, place)
    assert list(first) == list(second)
    assert len({str(module) for module in first.values()}) == len(first)
    for a, b in zip(first.values(), second.values(), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@PLACES
def test_all_of_it_learns(name: str, place: Place) -> None:
    for module in built(name, place).values():
        x = torch.randn(4, *place.shape_in, generator=torch.Generator().manual_seed(0), requires_grad=True)
        module.train()(x).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        assert x.grad is not None


@PLACES
def test_its_activation_is_the_networks_own(name: str, place: Place) -> None:
    allowed = type(place.activation())
    for module in built(name, place).values():
        used = {type(m) for m in module.modules()} & {type(make()) for make in ACTIVATIONS.values()}
        assert used <= {allowed}


@PLACES
def test_it_is_traced_and_exported(name: str, place: Place) -> None:
    """The last variant only, as an export takes a second: kinds differ, their variants in size alone."""
    for module in list(built(name, place).values())[-1:]:
        network = analyse_network(module, place.shape_in)
        names = [layer.name for layer in network.layers]
        assert len([m for m in module.modules() if isinstance(m, nn.Conv2d)]) == len([n for n in names if n != "add"])
        assert quantizable_nodes(export_onnx(network.module, place.shape_in)) == names
