"""Every runtime that discovery finds keeps the `Runtime` protocol, on one small ONNX file."""

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from paredown.models.errors import InputError, MissingError
from paredown.models.onnx.edit import save_onnx
from paredown.stages import plugins
from paredown.stages.limits import Caches
from paredown.stages.runtimes.base import Load, Runtime, latency_ratio, summarize_latency
from paredown.stages.runtimes.support import timing


@pytest.fixture(scope="module", params=plugins.plugin_names("runtimes"))
def runtime(request: pytest.FixtureRequest) -> Runtime:
    try:
        found: Runtime = plugins.load_plugin("runtimes", request.param)()
    except MissingError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="module")
def model(portable: Path, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as the runtime takes it."""
    path = tmp_path_factory.mktemp("lowered") / "model.onnx"
    save_onnx(runtime.lower(onnx.load(portable)), path)
    return path


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with ReLU, pooling and a linear layer: two 3x8x8 images to four logits each."""
    rng = np.random.default_rng(0)
    shapes = {"w": (16, 3, 3, 3), "b": (16,), "wf": (4, 16), "bf": (4,)}
    constants = [numpy_helper.from_array(rng.standard_normal(s, dtype=np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], "features.0", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["conv"], ["relu"], "relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "wf", "bf"], ["logits"], "head", transB=1),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 4])
    graph = helper.make_graph(nodes, "g", [images], [logits], constants)
    path = tmp_path_factory.mktemp("runtimes") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_it_has_every_method_of_the_protocol(runtime: Runtime) -> None:
    for name, method in inspect.getmembers(Runtime, inspect.isfunction):
        if not name.startswith("_"):
            wanted, found = inspect.signature(method), inspect.signature(getattr(type(runtime), name))
            assert list(found.parameters)[: len(wanted.parameters)] == list(wanted.parameters), name


def test_its_facts_are_usable(runtime: Runtime) -> None:
    assert runtime.version()
    assert runtime.width_multiple() >= 1
    assert runtime.weight_bits() in (7, 8)
    assert not runtime.supports("nothing like this")
    machine = runtime.machine()
    assert machine and machine == runtime.machine()
    assert all(isinstance(text, str) and text for item in machine.items() for text in item)


def test_its_form_of_a_model_keeps_the_layers_names(runtime: Runtime, portable: Path, model: Path) -> None:
    before, after = onnx.load(portable), onnx.load(model)
    assert {"features.0", "head"} <= {node.name for node in after.graph.node}
    assert (runtime.lower(before) is before) == (before == after)


def test_its_logits_are_those_of_the_file(runtime: Runtime, portable: Path, model: Path) -> None:
    images = np.random.default_rng(1).standard_normal((5, 3, 8, 8), dtype=np.float32)
    got = runtime.run(model, [images[:2], images[2:4], images[4:]], threads=1)
    evaluator: Any = ReferenceEvaluator(str(portable))
    padded = np.concatenate([images, images[:1]])
    wanted = np.concatenate([evaluator.run(None, {"x": padded[i : i + 2]})[0] for i in (0, 2, 4)])[:5]
    assert got.shape == (5, 4)
    np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-2)
    again = runtime.run(model, [images], threads=1)
    np.testing.assert_array_equal(got, again)


@pytest.mark.parametrize("caches", get_args(Caches))
def test_its_latencies_can_be_summarized(caches: Caches, runtime: Runtime, model: Path) -> None:
    first, second = runtime.latency([model, model], Load(1, 2, caches), rounds=2, runs=4)
    latency = summarize_latency(first)
    assert (latency.rounds, latency.runs) == (2, 8)
    assert 0 < latency.p50 <= latency.p95
    assert latency_ratio(first, second) > 0


@pytest.mark.parametrize("caches", get_args(Caches))
def test_other_memory_is_read_before_every_run_with_cold_caches_only(
    caches: Caches, runtime: Runtime, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime.SIDECAR:
        pytest.skip("it reads in a process of its own")
    read = list[int]()
    monkeypatch.setattr(timing, "reading_other_memory", lambda threads: nullcontext(lambda: read.append(threads)))
    runtime.latency([model, model], Load(2, 2, caches), rounds=2, runs=3)
    assert read == ([2] * 2 * 2 * 3 if caches == "cold" else [])
    read.clear()
    runtime.node_times(model, Load(1, 2, caches), runs=6)
    assert read == ([1] * 6 if caches == "cold" else [])


@pytest.mark.parametrize("caches", get_args(Caches))
def test_its_node_times_are_named_by_the_file(caches: Caches, runtime: Runtime, model: Path) -> None:
    times = runtime.node_times(model, Load(1, 2, caches), runs=3)
    assert {"features.0", "head"} <= set(times)
    assert all(name.startswith("+") or name in {"features.0", "relu", "mean", "flat", "head"} for name in times)
    assert all(t >= 0 for t in times.values()) and sum(times.values()) > 0


def test_its_peak_memory_is_that_of_a_process(runtime: Runtime, model: Path) -> None:
    assert 5 < runtime.peak_memory(model, Load(1, 2)) < 2000


def test_a_missing_file_is_an_input_error_with_its_path(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx"):
        runtime.run(tmp_path / "gone.onnx", [np.zeros((2, 3, 8, 8), np.float32)], threads=1)
