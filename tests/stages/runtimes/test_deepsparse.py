"""DeepSparse: whose time is whose, and, where its sidecar is installed, what it computes, refuses and survives."""

import json
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto

from paredown.models.compression.conv_integer import conv_integer
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.errors import InputError, MissingError, ParedownError
from paredown.models.onnx.edit import copy_of_model, save_onnx
from paredown.stages import plugins
from paredown.stages.analysis.plan_network import picks_by_name
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.limits import Limits, Target
from paredown.stages.measuring.model_files import portable_model
from paredown.stages.planning.layer_times import owning_layers, plan_times
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.deepsparse import DeepSparse
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.runtimes.sidecars.worker import SidecarWorker
from paredown.stages.runtimes.support import deepsparse_profile
from paredown.stages.transforms.quantize import Quantize

LACK = plugins.missing_requirement("runtimes", "deepsparse")

real = pytest.mark.usefixtures("installed")


@pytest.fixture
def installed() -> None:
    if LACK:
        pytest.skip(LACK)


def int8(prepared: PreparedModel) -> ModelProto:
    return insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7)


def written(model: ModelProto, file: Path) -> Path:
    save_onnx(model, file)
    return file


def test_a_fused_piece_is_shared_out_by_multiply_adds(prepared: PreparedModel, tmp_path: Path) -> None:
    path = written(conv_integer(int8(prepared)), tmp_path / "model.onnx")
    made = {node.name: node.output[0] for node in onnx.load(path).graph.node}
    pieces = [
        ("Naive Subgraph 0", "<none>", 1.0),
        ("pyramid_1", f"{made['block.conv1']},{made['block.conv2']},no_such_value", 6.0),
        ("elementwise_2", made["fc.scaled"], 0.5),
        ("gemm_3", made["fc"], 2.0),
    ]
    slow = [(kind, values, 10 * ms) for kind, values, ms in pieces]
    times = deepsparse_profile.node_times(path, [pieces, slow, pieces])
    # 16 channels to 32, and back: as many products each
    expected = {"+Naive Subgraph": 1.0, "block.conv1": 3.0, "block.conv2": 3.0, "fc.scaled": 0.5, "fc": 2.0}
    assert times == pytest.approx(expected)


def test_work_is_multiply_adds(prepared: PreparedModel, tmp_path: Path) -> None:
    for model in (prepared.model, conv_integer(int8(prepared))):
        work = deepsparse_profile.multiply_adds(written(model, tmp_path / "model.onnx"))
        assert work["stem.0"] == 3 * 16 * 9 * 12 * 12
        assert work["depthwise"] == 16 * 9 * 6 * 6
        assert work["fc"] == 48 * 3


def test_what_stands_behind_an_integer_layer_counts_for_it(prepared: PreparedModel) -> None:
    model = conv_integer(int8(prepared))
    owners = owning_layers(model, [node.name for node in model.graph.node], picks_by_name(prepared))
    for name in ("stem.0", "block.conv2", "depthwise", "fc"):
        assert {owners[f"{name}{part}"] for part in ("", ".biased", ".cast", ".scaled")} == {name}
    assert owners["mean"] == "pointwise.0"
    quantizing = {node.name: owners[node.name] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert "" not in quantizing.values()
    times = plan_times(model, dict.fromkeys(quantizing, 1.0), float(len(quantizing)), picks_by_name(prepared))
    assert times.rest == 0 and times.total == pytest.approx(len(quantizing))


def test_it_turns_zeros_into_time_and_the_others_do_not() -> None:
    assert DeepSparse().supports("sparse")
    assert not OnnxRuntime().supports("sparse")


@pytest.fixture
def images(tools: Any) -> np.ndarray:
    noise: np.ndarray = torch.randn(9, *tools.shape, generator=torch.Generator().manual_seed(3)).numpy()
    return noise


@real
@pytest.mark.runtime
def test_it_computes_what_onnxruntime_computes(prepared: PreparedModel, images: np.ndarray, tmp_path: Path) -> None:
    runtime, found = DeepSparse(), dict[str, np.ndarray]()
    for name, model in {"float": prepared.model, "int8": int8(prepared)}.items():
        plain = OnnxRuntime().run(written(model, tmp_path / f"{name}.onnx"), [images], 2)
        found[name] = runtime.run(written(runtime.lower(model), tmp_path / "lowered.onnx"), [images], 2)
        assert np.abs(found[name] - plain).mean() < (1e-4 if name == "float" else 0.02) * plain.std()
    assert np.abs(found["int8"] - found["float"]).mean() > 0


@real
@pytest.mark.runtime
def test_killed_in_the_middle_of_a_measurement_it_measures_again(
    prepared: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(conv_integer(int8(prepared)), tmp_path / "model.onnx")
    ask, killed = SidecarWorker._ask, list[int]()

    def sabotaged(worker: SidecarWorker, verb: str, arguments: Mapping[str, object]) -> Any:
        if verb == "round" and not killed:
            process = worker._started().process
            killed.append(process.pid)
            threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
        return ask(worker, verb, arguments)

    monkeypatch.setattr(SidecarWorker, "_ask", sabotaged)
    times = DeepSparse().latency([path, path], Load(1, 1), rounds=2, runs=40)
    assert np.shape(times) == (2, 2, 40) and np.min(times) > 0
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


@real
@pytest.mark.runtime
def test_killed_twice_it_is_an_error_that_names_the_file(
    prepared: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(conv_integer(prepared.model), tmp_path / "model.onnx")
    ask = SidecarWorker._ask

    def sabotaged(worker: SidecarWorker, verb: str, arguments: Mapping[str, object]) -> Any:
        if verb == "round":
            threading.Timer(0.2, os.kill, (worker._started().process.pid, signal.SIGKILL)).start()
        return ask(worker, verb, arguments)

    monkeypatch.setattr(SidecarWorker, "_ask", sabotaged)
    with pytest.raises(InputError, match=r"model\.onnx: deepsparse cannot .* died again .*: killed by SIGKILL"):
        DeepSparse().latency([path], Load(1, 1), rounds=1, runs=40)


@real
@pytest.mark.runtime
def test_a_model_that_aborts_the_engine_is_one_line_with_its_name(prepared: PreparedModel, tmp_path: Path) -> None:
    model = conv_integer(int8(prepared))
    for node in model.graph.node:
        if node.op_type == "ConvInteger":
            del node.input[3]
    sound, bad = written(conv_integer(prepared.model), tmp_path / "sound.onnx"), written(model, tmp_path / "bad.onnx")
    with pytest.raises(
        InputError, match=r"bad\.onnx: deepsparse cannot use this file: .* died again .*: Assertion at .*ops"
    ):
        DeepSparse().latency([sound, bad], Load(1, 1), rounds=1, runs=2)
    assert DeepSparse().latency([sound], Load(1, 1), rounds=1, runs=2)


@real
@pytest.mark.runtime
def test_what_it_leaves_to_others_is_not_measured(prepared: PreparedModel, tmp_path: Path) -> None:
    """The QDQ form at an opset that it reads."""
    model = copy_of_model(int8(prepared))
    model.opset_import[0].version, model.ir_version = 17, 8
    path = written(model, tmp_path / "model.onnx")
    runtime, line = DeepSparse(), r"model\.onnx: .* not measured: it computes only \d+ % of the operators itself"
    measures = (
        lambda: runtime.latency([path], Load(1, 1), rounds=1, runs=1),
        lambda: runtime.node_times(path, Load(1, 1), runs=1),
        lambda: runtime.peak_memory(path, Load(1, 1)),
    )
    for measure in measures:
        with pytest.raises(InputError, match=line):
            measure()


@real
@pytest.mark.runtime
def test_a_form_that_it_does_not_read_is_refused(prepared: PreparedModel, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.onnx: deepsparse cannot use this file: "):
        DeepSparse().run(written(prepared.model, tmp_path / "model.onnx"), [images], 1)


@real
@pytest.mark.runtime
@pytest.mark.parametrize("lower", [False, True])
def test_every_layer_of_a_float_model_has_its_time(prepared: PreparedModel, tmp_path: Path, lower: bool) -> None:
    model = conv_integer(int8(prepared) if lower else prepared.model)
    times = DeepSparse().node_times(written(model, tmp_path / "model.onnx"), Load(1, 1), runs=4)
    layers = {name for name in quantizable_nodes(prepared.model) if name != "add"}
    assert layers <= set(times) and min(times.values()) >= 0
    assert all(name.startswith("+") or name in {node.name for node in model.graph.node} for name in times)


@real
@pytest.mark.runtime
def test_a_run_for_it_keeps_the_portable_file_beside_its_own(finished: State, run: Any, tmp_path: Path) -> None:
    """What is planned from is portable, what is measured and shipped is not."""
    state = replace(finished, target=Target(runtime="deepsparse"), compare=("onnxruntime",), limits=Limits())
    state = replace(run(state, "baseline", tmp_path, rounds=1, runs=1), out=tmp_path)
    prepared = load_prepared_model(state)
    assert prepared.model.opset_import[0].version == 20
    meter = PlanMeter(PlanSpace(prepared, (Quantize(),)), state, rounds=1, runs=2)
    sample = meter.sample(Quantize().uniform(prepared)[0])
    assert sample.latency > 0 and sample.times is not None
    assert {"stem.0", "block.conv1", "depthwise", "fc"} <= sample.times.layers.keys()
    state = run(state, "export", tmp_path, agreement=0.8)
    state = run(state, "verify", tmp_path, rounds=1, runs=1)
    for product in ("baseline", "exported", "artifact"):
        folder = state.product(product)
        assert portable_model(folder).name == "portable.onnx"
        opsets = [onnx.load(folder / name).opset_import[0].version for name in ("model.onnx", "portable.onnx")]
        assert opsets == [17, 20]
    manifest = json.loads((state.product("artifact") / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {"model.onnx", "portable.onnx", "baseline/model.onnx"}
    assert [one["runtime"].split()[0] for one in manifest["compare"]] == ["onnxruntime"]


def test_without_its_sidecar_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAREDOWN_SIDECARS", str(tmp_path))
    with pytest.raises(MissingError, match=r"paredown runtime install deepsparse|cannot run here"):
        plugins.load_plugin("runtimes", "deepsparse")
    path = tmp_path / "model.onnx"
    with pytest.raises(ParedownError):
        DeepSparse().latency([path], Load(1, 1), rounds=1, runs=1)
