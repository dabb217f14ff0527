"""neural-compressor as the engine of int8: its scales and its fp32 layers arrive in plan and artifact as they are."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from paredown.models.compression.fake_quant import observe_ranges
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes, quantized_values
from paredown.models.compression.scales import activation_scale
from paredown.models.network.trace import Network
from paredown.models.onnx.edit import constant_arrays
from paredown.stages import plugins
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.engines import neural_compressor
from paredown.stages.engines.neural_compressor import NeuralCompressor
from paredown.stages.export import Export
from paredown.stages.limits import Bound, Limits
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.student import calibration_batches

LACK = plugins.missing_requirement("engines", "neural-compressor")
pytestmark = pytest.mark.skipif(LACK is not None, reason=str(LACK))

IMAGES = [torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
ENGINE = {"quantize": {"engine": "neural-compressor"}}

Scales = list[tuple[np.float32, int]]


def theirs(network: Network, images: list[Tensor]) -> Scales:
    """Scales and zero points as neural-compressor's own four steps find them, in the order of the network."""
    with neural_compressor._quiet():
        from neural_compressor.torch.export import export
        from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

        prepared = prepare(export(network.module, (images[0],)), StaticQuantConfig())
        with torch.no_grad():
            for batch in images:
                prepared(batch)
        graph = convert(prepared).graph
    nodes = [node for node in graph.nodes if "quantized_decomposed.quantize_per_tensor" in str(node.target)]
    return [(np.float32(node.args[1]), node.args[2]) for node in nodes]


def written(model: onnx.ModelProto) -> dict[str, tuple[np.float32, int]]:
    """Value to scale and zero point of the QuantizeLinear nodes of a file."""
    constants = constant_arrays(model)
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {n.input[0]: (constants[n.input[1]][()], int(constants[n.input[2]])) for n in nodes}


def test_the_scales_are_neural_compressors_to_the_last_bit(prepared: PreparedModel) -> None:
    network, int8 = prepared.network, quantizable_nodes(prepared.model)
    values = set(quantized_values(prepared.model, int8).values())
    ranges = NeuralCompressor().ranges(network, IMAGES, values, ())
    found = written(insert_qdq(prepared.model, int8, ranges, 8))
    expected = theirs(network, IMAGES)
    assert len(expected) >= 6
    assert set(expected) <= set(found.values())
    assert all(found[value] == activation_scale(ranges[value]) for value in ranges if value in found)


def test_what_it_leaves_open_takes_our_own_range(prepared: PreparedModel) -> None:
    """The convolution before the residual addition is fused with it there, and so has no scale."""
    network = prepared.network
    before, values = network.layer("block.conv2").value, {layer.output for layer in network.layers} - {"logits"}
    ranges = NeuralCompressor().ranges(network, IMAGES, values, ())
    own = observe_ranges(network.graph, IMAGES, values)
    assert ranges[before] == own[before]
    assert ranges["relu"] != own["relu"]


def test_tuning_tries_more_fp32_layers_until_the_loss_is_tolerable(
    prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tops = iter([0.9, 0.8, 0.85, 0.895])
    monkeypatch.setattr(neural_compressor, "_top1", lambda model, batches: next(tops))
    tuned = NeuralCompressor(images=8).tune(prepared.network, IMAGES, lambda count: [(IMAGES[0], torch.zeros(8))])
    assert [trial["fp32"] for trial in tuned.decisions["trials"]] == [0, 1, 2]
    assert tuned.decisions["original_top1"] == 0.9
    assert set(tuned.refused) == set(_most_sensitive(prepared, 2))
    assert tuned.decisions["fp32"] == list(tuned.refused)


def test_where_nothing_is_tolerable_the_best_trial_counts(
    prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tops = iter([0.9, 0.3, 0.5, 0.4, 0.4])
    monkeypatch.setattr(neural_compressor, "_top1", lambda model, batches: next(tops))
    tuned = NeuralCompressor().tune(prepared.network, IMAGES, lambda count: [(IMAGES[0], torch.zeros(8))])
    assert list(tuned.refused) == _most_sensitive(prepared, 1)


def _most_sensitive(prepared: PreparedModel, count: int) -> list[str]:
    return NeuralCompressor()._by_sensitivity(prepared.network, IMAGES)[:count]


@pytest.fixture(scope="module")
def refusing(started: State, run: Callable[..., State], tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After a search for a limit that needs int8, where tuning accepted one layer in fp32."""
    folder = tmp_path_factory.mktemp("refusing")
    with pytest.MonkeyPatch.context() as patch:
        tops = iter([0.9, 0.8, 0.9])
        patch.setattr(neural_compressor, "_top1", lambda model, batches: next(tops))
        state = run(started, "profile", folder, transforms=ENGINE, plans=0, images=32)
    state = run(state, "sensitivity", folder, images=8, plans=0)
    limits = Limits(latency_p50=Bound(value=0.7, unit="x"))
    yield run(replace(state, limits=limits), "search", folder, front=0, alternatives=0)


def plan_of(state: State) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state.product("plan") / "plan.json").read_text())
    return found


def test_a_layer_that_tuning_refuses_stays_in_fp32(refusing: State) -> None:
    plan = plan_of(refusing)
    (refused,) = plan["quantization"]["fp32"]
    assert load_prepared_model(refusing).tuned.refused == (refused,)
    assert plan["choice"][f"quantize:{refused}"] == "fp32"
    assert {site["name"]: site["candidates"] for site in plan["sites"]}[f"quantize:{refused}"] == ["fp32"]
    assert "int8" in plan["choice"].values()
    assert plan["quantization"]["engine"] == "neural-compressor"


def test_the_artifacts_scales_are_those_of_the_student(refusing: State, run: Callable[..., State]) -> None:
    """Recovery moves the activations, so that the student is calibrated, by the same engine."""
    folder = refusing.product("plan").parent
    state = run(refusing, "compress", folder, batches=2)
    once, none = Schedule(epochs=1, lr=1e-3), Schedule(epochs=0)
    state = run(state, "recover", folder, distil=once, quantize=none)
    state = run(state, "export", folder, agreement=0.5)
    state = run(state, "verify", folder, rounds=1, runs=1)
    data = state.open_data()
    found = written(onnx.load(state.product("exported") / "model.onnx"))
    student = Export()._trained(state, data).network
    theirs = neural_compressor._calibrated(student, calibration_batches(data), ()).items()
    expected = {value: activation_scale(bounds) for value, bounds in theirs if value in found}
    assert len(expected) >= 2
    assert {value: found[value] for value in expected} == expected
    assert expected != {value: activation_scale(load_prepared_model(state).ranges[value]) for value in expected}
    manifest = json.loads((state.product("artifact") / "manifest.json").read_text())
    assert manifest["quantization"] == plan_of(state)["quantization"]


def test_the_same_recipe_gives_the_same_profile(started: State, run: Callable[..., State], tmp_path: Path) -> None:
    products = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        state = run(started, "profile", tmp_path / name, transforms=ENGINE, plans=1, images=32)
        products.append({file.name: file.read_bytes() for file in state.product("profile").iterdir()})
    assert products[0].keys() >= {"subject.json", "profile.json"}
    assert products[0] == products[1]
