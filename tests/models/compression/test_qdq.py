"""Int8 in the graph: which values are quantized, and what onnxruntime makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from paredown.models.compression.qdq import file_ranges, insert_qdq, quantizable_nodes, quantized_values
from paredown.models.compression.scales import activation_scale
from paredown.models.onnx.edit import constant_arrays, copy_of_model, save_onnx
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.runtimes.onnxruntime import OnnxRuntime


def test_units_are_layers_and_joins_but_not_biases(prepared: PreparedModel) -> None:
    assert quantizable_nodes(prepared.model) == [layer.name for layer in prepared.network.layers]


def test_one_int8_layer_quantizes_what_it_reads_and_what_it_computes(prepared: PreparedModel) -> None:
    found = quantized_values(prepared.model, ["block.conv1"])
    layer = prepared.network.layer("block.conv1")
    assert set(found) == {layer.inputs[0], layer.output}
    assert all(value == origin for value, origin in found.items())


def test_pooling_between_int8_layers_stays_int8_and_flattening_takes_its_range(prepared: PreparedModel) -> None:
    found = quantized_values(prepared.model, quantizable_nodes(prepared.model))
    pool = next(node for node in prepared.model.graph.node if node.op_type == "GlobalAveragePool")
    (flat,) = (node for node in prepared.model.graph.node if node.op_type in ("Reshape", "Flatten"))
    assert found[pool.output[0]] == pool.output[0]
    assert found[flat.output[0]] == pool.output[0]
    assert "logits" not in found


def test_nothing_else_is_quantized_before_an_int8_classifier(prepared: PreparedModel) -> None:
    found = quantized_values(prepared.model, ["fc"])
    pool = next(node.output[0] for node in prepared.model.graph.node if node.op_type == "GlobalAveragePool")
    assert set(found.values()) == {pool}
    assert len(found) == 1


def test_every_quantized_value_is_calibrated(prepared: PreparedModel) -> None:
    assert set(quantized_values(prepared.model, quantizable_nodes(prepared.model)).values()) <= set(prepared.ranges)


def test_the_given_model_is_left_untouched(prepared: PreparedModel) -> None:
    before = copy_of_model(prepared.model)
    insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7)
    assert before == prepared.model


def test_int8_weights_are_stored_as_integers_once(prepared: PreparedModel) -> None:
    model = insert_qdq(prepared.model, ["fc"], prepared.ranges, 7)
    stored = constant_arrays(model)
    assert "fc.weight" not in stored
    assert stored["fc.weight.q"].dtype == np.int8
    assert np.abs(stored["fc.weight.q"]).max() == 63
    assert stored["fc.bias.q"].dtype == np.int32
    assert "stem.0.weight" in stored
    onnx.checker.check_model(model)


def executed(model: onnx.ModelProto, folder: Path) -> dict[str, int]:
    """Op types of the graph that onnxruntime runs, with their number."""
    save_onnx(model, folder / "model.onnx")
    kinds = [kind for kind, _ in OnnxRuntime().optimised(folder / "model.onnx")]
    return {kind: kinds.count(kind) for kind in kinds}


def test_all_int8_runs_in_integers_from_end_to_end(prepared: PreparedModel, tmp_path: Path) -> None:
    kinds = executed(insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7), tmp_path)
    assert kinds["QLinearConv"] == 5
    assert kinds["QLinearAdd"] == 1
    assert kinds["QLinearGlobalAveragePool"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Add"} & set(kinds)
    assert kinds["QuantizeLinear"] == 1


@pytest.mark.parametrize("alone", ["block.conv1", "depthwise", "pointwise.0"])
def test_a_lone_float_layer_between_int8_ones_stays_float(prepared: PreparedModel, tmp_path: Path, alone: str) -> None:
    """onnxruntime would quantize it behind our back, per tensor."""
    chosen = [name for name in quantizable_nodes(prepared.model) if name != alone]
    kinds = executed(insert_qdq(prepared.model, chosen, prepared.ranges, 7), tmp_path)
    assert kinds["QLinearConv"] == 4
    assert kinds.get("Conv", 0) + kinds.get("FusedConv", 0) == 1


@pytest.mark.parametrize("alone", ["block.conv1", "fc"])
def test_a_guarded_layer_computes_the_same(prepared: PreparedModel, tmp_path: Path, alone: str, tools: Any) -> None:
    """The guard is a maximum with the lowest number: without it the answer is bit for bit the same."""
    import onnxruntime

    chosen = [name for name in quantizable_nodes(prepared.model) if name != alone]
    model = insert_qdq(prepared.model, chosen, prepared.ranges, 7)
    plain = copy_of_model(model)
    for node in list(plain.graph.node):
        if node.name.endswith(".guard"):
            node.op_type = "Identity"
            del node.input[1:]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    image = {"x": torch.randn(1, *tools.shape).numpy()}
    answers = [onnxruntime.InferenceSession(m.SerializeToString(), options).run(None, image)[0] for m in (model, plain)]
    assert np.array_equal(*answers)


def test_a_mean_in_far_finer_steps_than_its_input_runs(prepared: PreparedModel, tmp_path: Path, tools: Any) -> None:
    """onnxruntime refuses steps 256 times as fine, as ranges of hardly trained networks ask for."""
    pool = next(node for node in prepared.model.graph.node if node.op_type == "GlobalAveragePool")
    units = quantizable_nodes(prepared.model)
    plain = dict(prepared.ranges)
    absurd = {**plain, pool.input[0]: (0.0, 1e5), pool.output[0]: (-1e-3, 1e-3)}
    save_onnx(insert_qdq(prepared.model, units, absurd, 7), tmp_path / "model.onnx")
    assert OnnxRuntime().run(tmp_path / "model.onnx", [np.zeros((1, *tools.shape), np.float32)], 1).shape == (1, 3)
    stored = constant_arrays(insert_qdq(prepared.model, units, absurd, 7))
    told = file_ranges(prepared.model, units, absurd)
    assert told[pool.output[0]] != absurd[pool.output[0]]
    assert activation_scale(told[pool.output[0]])[0] == stored[f"{pool.output[0]}.scale"]
    assert file_ranges(prepared.model, units, plain) == plain
    as_before = constant_arrays(insert_qdq(prepared.model, units, plain, 7))
    scale, _ = activation_scale(plain[pool.output[0]])
    assert as_before[f"{pool.output[0]}.scale"] == scale
