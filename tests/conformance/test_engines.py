"""What every engine keeps, whatever it is: run for each one that discovery finds."""

import json
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from paredown.models.compression.qdq import quantizable_nodes, quantized_values
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.engines.base import Engine
from paredown.stages.plugins import load_plugin, missing_requirement, plugin_names

IMAGES = [torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


@pytest.fixture(params=plugin_names("engines"))
def engine(request: pytest.FixtureRequest) -> Engine:
    if line := missing_requirement("engines", request.param):
        pytest.skip(line)
    made: Engine = load_plugin("engines", request.param)()
    return made


def labelled(count: int) -> Iterable[tuple[Tensor, Tensor]]:
    return [(images, torch.zeros(len(images), dtype=torch.int64)) for images in IMAGES]


def test_our_own_and_neural_compressor_are_there() -> None:
    assert {"own", "neural_compressor"} <= set(plugin_names("engines"))


def test_every_value_gets_a_range_and_always_the_same(engine: Engine, prepared: PreparedModel) -> None:
    values = set(quantized_values(prepared.model, quantizable_nodes(prepared.model)).values())
    fp32 = [prepared.network.layers[0].name]
    ranges = engine.ranges(prepared.network, IMAGES, values, fp32)
    assert ranges.keys() == values
    assert all(low <= high for low, high in ranges.values())
    assert engine.ranges(prepared.network, IMAGES, values, fp32) == ranges


def test_only_what_was_asked_for_is_told(engine: Engine, prepared: PreparedModel) -> None:
    (one,) = list(engine.ranges(prepared.network, IMAGES, ["relu"], ()))
    assert one == "relu"


def test_tuning_refuses_layers_of_the_network_and_tells_who_it_was(engine: Engine, prepared: PreparedModel) -> None:
    before = {name: value.clone() for name, value in prepared.network.graph.state_dict().items()}
    tuned = engine.tune(prepared.network, IMAGES, labelled)
    assert set(tuned.refused) <= {layer.name for layer in prepared.network.layers}
    assert json.loads(json.dumps(tuned.decisions))["engine"] in {
        name.replace("_", "-") for name in plugin_names("engines")
    }
    assert all(torch.equal(before[name], value) for name, value in prepared.network.graph.state_dict().items())
