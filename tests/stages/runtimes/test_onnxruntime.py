"""The onnxruntime runtime: results, turn-taking, names of nodes, memory, errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from paredown.models.errors import InputError, ParedownError
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.runtimes.support import ort_session
from paredown.stages.runtimes.support.in_process import fresh_peak

RUNTIME = OnnxRuntime()
Array = NDArray[np.float32]


class Graph:
    """Collects nodes and constants; convolutions are named by `name`, other nodes by their output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op: str, inputs: list[str], output: str, name: str | None = None, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attributes))
        return output

    def quantized(self, value: str, scale: float, zero: int = 0) -> str:
        """A QuantizeLinear and DequantizeLinear pair behind `value`."""
        numbers = [
            self.constant(f"{value}_scale", np.float32(scale)),
            self.constant(f"{value}_zero", np.uint8(zero)),
        ]
        self.op("QuantizeLinear", [value, *numbers], f"{value}_q")
        return self.op("DequantizeLinear", [f"{value}_q", *numbers], f"{value}_dq")

    def int8_weight(self, name: str, weight: NDArray[np.int8]) -> str:
        outputs = len(weight)
        parts = [
            self.constant(f"{name}_q", weight),
            self.constant(f"{name}_scale", np.full(outputs, 0.01, np.float32)),
            self.constant(f"{name}_zero", np.zeros(outputs, np.int8)),
        ]
        return self.op("DequantizeLinear", parts, name, axis=0)

    def save(self, path: Path, shape: list[int], output: str, output_shape: list[int]) -> Path:
        first = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        last = helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self.nodes, "g", [first], [last], self.constants)
        opset = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
        return path


def classifier(path: Path, batch: int, width: int = 8) -> tuple[Path, dict[str, Array]]:
    """Two convolutions with ReLU, pooling and a linear layer on 3x10x10 images; and its weights."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (width, 3, 3, 3), "w2": (width, width, 3, 3), "wf": (5, width), "bf": (5,)}
    weights = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    graph = Graph()
    for name, value in weights.items():
        graph.constant(name, value)
    graph.op("Conv", ["x", "w1"], "conv2d", "features.0", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph.op("Relu", ["conv2d"], "relu")
    graph.op("Conv", ["relu", "w2"], "conv2d_1", "features.2", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph.op("Relu", ["conv2d_1"], "relu_1")
    graph.op("GlobalAveragePool", ["relu_1"], "mean")
    graph.op("Flatten", ["mean"], "flat")
    graph.op("Gemm", ["flat", "wf", "bf"], "logits", "fc", transB=1)
    return graph.save(path, [batch, 3, 10, 10], "logits", [batch, 5]), weights


def reference(images: Array, weights: dict[str, Array]) -> Array:
    hidden = np.maximum(convolve(images, weights["w1"]), 0)
    hidden = np.maximum(convolve(hidden, weights["w2"]), 0)
    logits: Array = hidden.mean(axis=(2, 3)) @ weights["wf"].T + weights["bf"]
    return logits


def convolve(images: Array, weight: Array) -> Array:
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    result: Array = np.einsum("nchwij,ocij->nohw", windows, weight)
    return result


def int8_chain(path: Path, limit: int = 60, size: int = 12) -> Path:
    """Quantize, two convolutions with ReLU, dequantize: an int8 stretch of an artifact."""
    rng = np.random.default_rng(2)
    graph = Graph()
    value = graph.quantized("x", 0.02, 128)
    for number, (inputs, outputs) in enumerate([(16, 32), (32, 16)]):
        weight = rng.integers(-limit, limit, (outputs, inputs, 3, 3)).astype(np.int8)
        name = f"features.{number}"
        graph.int8_weight(f"{name}.weight", weight)
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        graph.op("Conv", [value, f"{name}.weight"], f"conv2d_{number}", name, **pads)
        value = graph.quantized(graph.op("Relu", [f"conv2d_{number}"], f"relu_{number}"), 0.05)
    return graph.save(path, [1, 16, size, size], value, [1, 16, size, size])


@pytest.mark.parametrize("sizes", [[4, 4], [4, 2], [6], [1]])
def test_run_gives_the_logits_of_all_images_whatever_their_batches(tmp_path: Path, sizes: list[int]) -> None:
    model, weights = classifier(tmp_path / "m.onnx", batch=4)
    rng = np.random.default_rng(3)
    batches = [rng.standard_normal((size, 3, 10, 10), dtype=np.float32) for size in sizes]
    logits = RUNTIME.run(model, iter(batches), threads=1)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference(np.concatenate(batches), weights), rtol=1e-4, atol=1e-4)


def test_int8_results_are_exact_with_weight_bits(tmp_path: Path) -> None:
    """Full-range products must not saturate: every sum is compared with integer arithmetic."""
    largest = 2 ** (RUNTIME.weight_bits() - 1) - 1
    signs = np.random.default_rng(4).choice([-1, 1], (16, 32))
    graph = Graph()
    graph.int8_weight("w", (largest * signs).astype(np.int8)[:, :, None, None])
    value = graph.quantized("x", 1.0)
    graph.op("Conv", [value, "w"], "y", "conv", kernel_shape=[1, 1])
    scale = 0.01 * largest * 255 * 32 / 127
    graph.op("Flatten", [graph.quantized("y", scale, 128)], "logits")
    model = graph.save(tmp_path / "m.onnx", [1, 32, 1, 1], "logits", [1, 16])
    assert ("QLinearConv", "conv") in [(op, name.split("_")[0]) for op, name in RUNTIME.optimised(model)]
    images = np.full((1, 32, 1, 1), 255, np.float32)
    exact = 0.01 * largest * 255 * signs.sum(axis=1)
    got = RUNTIME.run(model, [images], threads=1)[0]
    assert np.abs(got - exact).max() <= 0.51 * scale


def test_latency_has_one_list_per_model_and_round(tmp_path: Path) -> None:
    models = [classifier(tmp_path / f"{width}.onnx", batch=2, width=width)[0] for width in (8, 16)]
    times = RUNTIME.latency(models, Load(1, 2), rounds=3, runs=7)
    assert [[len(runs) for runs in model] for model in times] == [[7, 7, 7], [7, 7, 7]]
    assert all(t > 0 for model in times for runs in model for t in runs)


def test_node_times_are_named_by_the_file_in_fp32(tmp_path: Path) -> None:
    model, _ = classifier(tmp_path / "m.onnx", batch=1, width=32)
    times = RUNTIME.node_times(model, Load(1, 1), runs=3)
    assert {"features.0", "features.2", "fc"} <= set(times)
    assert not {"relu", "relu_1"} & set(times), "a fused ReLU belongs to its convolution"
    assert all(t >= 0 for t in times.values()) and times["features.2"] > 0
    inserted = {name for name in times if name.startswith("+")}
    assert set(times) - inserted <= {"features.0", "features.2", "mean", "flat", "fc"}


def test_node_times_are_named_by_the_file_in_int8(tmp_path: Path) -> None:
    times = RUNTIME.node_times(int8_chain(tmp_path / "m.onnx"), Load(1, 1), runs=3)
    named = {name for name in times if not name.startswith("+")}
    assert named == {"x_q", "features.0", "features.1", "relu_1_dq"}


def test_node_times_leave_no_profile_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = classifier(tmp_path / "m.onnx", batch=1)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(work))
    RUNTIME.node_times(model, Load(1, 1), runs=1)
    assert list(work.iterdir()) == []


def test_an_int8_chain_becomes_quantized_convolutions(tmp_path: Path) -> None:
    ops = [op for op, _ in RUNTIME.optimised(int8_chain(tmp_path / "m.onnx"))]
    assert ops.count("QLinearConv") == 2
    assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") == 1
    assert set(ops) <= {"QLinearConv", "QuantizeLinear", "DequantizeLinear", "Transpose"}


def test_peak_memory_holds_the_weights(tmp_path: Path) -> None:
    def with_weight(columns: int) -> Path:
        graph = Graph()
        graph.constant("w", np.zeros((3072, columns), np.float32))
        graph.op("MatMul", [graph.op("Flatten", ["x"], "flat"), "w"], "logits")
        return graph.save(tmp_path / f"{columns}.onnx", [1, 3, 32, 32], "logits", [1, columns])

    small, large = (
        fresh_peak(ort_session.__file__, "onnxruntime", with_weight(columns), Load(1, 1)) for columns in (4, 5120)
    )  # 60 MiB
    assert 20 < small < 150
    assert 55 < large - small < 200  # onnxruntime holds up to three copies while it loads


def unsupported(path: Path) -> Path:
    graph = Graph()
    graph.op("Conv", ["x"], "y", domain="nobody.knows")
    return graph.save(path, [1, 3, 8, 8], "y", [1])


def flat_input(path: Path) -> Path:
    graph = Graph()
    graph.op("Relu", ["x"], "y")
    return graph.save(path, [1, 3], "y", [1, 3])


def corrupt(path: Path) -> Path:
    path.write_bytes(b"this is no protobuf")
    return path


@pytest.mark.parametrize("make", [lambda path: path, corrupt, unsupported, flat_input])
@pytest.mark.parametrize("verb", ["run", "latency", "node_times", "peak_memory"])
def test_a_file_that_cannot_be_used_is_one_line(
    make: Callable[[Path], Path], verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = make(tmp_path / "bad.onnx")
    calls: dict[str, Callable[[], object]] = {
        "run": lambda: RUNTIME.run(model, [np.zeros((1, 3, 8, 8), np.float32)], 1),
        "latency": lambda: RUNTIME.latency([model], Load(1, 1), 1, 1),
        "node_times": lambda: RUNTIME.node_times(model, Load(1, 1), 1),
        "peak_memory": lambda: RUNTIME.peak_memory(model, Load(1, 1)),
    }
    with pytest.raises(InputError) as caught:
        calls[verb]()
    assert str(caught.value).startswith(f"{model}: ") and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_wrong_sizes_name_what_is_allowed(tmp_path: Path) -> None:
    model, _ = classifier(tmp_path / "m.onnx", batch=2)
    with pytest.raises(InputError, match=r"\(3, 10, 10\), got \(3, 8, 8\)"):
        RUNTIME.run(model, [np.zeros((1, 3, 8, 8), np.float32)], 1)
    with pytest.raises(InputError, match=r"\[2, 3, 10, 10\]; allowed is one tensor\(float\) \[4 \(target\.batch\), "):
        RUNTIME.latency([model], Load(1, 4), 1, 1)
    with pytest.raises(InputError, match="no images"):
        RUNTIME.run(model, [], 1)


def test_a_crashed_memory_process_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "crash.py"
    script.write_text("import sys\nprint('first\\nkilled by hand', file=sys.stderr)\nsys.exit(9)\n")
    monkeypatch.setattr(ort_session, "__file__", str(script))
    with pytest.raises(ParedownError, match=r"ended with 9: killed by hand$") as caught:
        RUNTIME.peak_memory(tmp_path / "m.onnx", Load(1, 1))
    assert not isinstance(caught.value, InputError)
