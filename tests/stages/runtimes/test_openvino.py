"""The OpenVINO runtime: what is computed in which precision, names of nodes, files that it cannot use, no telemetry."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from paredown.models.errors import InputError
from paredown.stages import plugins
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.runtimes.openvino import WARM_UP, OpenVino, without_warm_up
from paredown.stages.runtimes.support import openvino_session
from paredown.stages.transforms.quantize import Quantize

# pytest.importorskip would import it with its telemetry.
pytestmark = pytest.mark.skipif(
    plugins.missing_requirement("runtimes", "openvino") is not None,
    reason=str(plugins.missing_requirement("runtimes", "openvino")),
)

RUNTIME = OpenVino()

ONE_PRODUCT = """
<ir_version: 10, opset_import: ["" : 20]>
saturating (float[1,32,1,1] x) => (float[1,16] logits) {
  xq = QuantizeLinear(x, one, zero)
  xd = DequantizeLinear(xq, one, zero)
  w = DequantizeLinear <axis = 0> (wq, ws, wz)
  y = Conv <kernel_shape = [1, 1]> (xd, w)
  yq = QuantizeLinear(y, scale, middle)
  yd = DequantizeLinear(yq, scale, middle)
  logits = Flatten(yd)
}
"""


@pytest.fixture(scope="module")
def fp32(prepared: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "fp32.onnx"
    onnx.save(prepared.model, path)
    return path


@pytest.fixture(scope="module")
def int8(prepared: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (choice,) = Quantize().uniform(prepared)
    path = tmp_path_factory.mktemp("openvino") / "int8.onnx"
    onnx.save(Quantize().lower(prepared, choice, prepared.model), path)
    return path


def images(model: Path, count: int) -> np.ndarray:
    shape = [size.dim_value for size in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(0).standard_normal((count, *shape[1:]), dtype=np.float32)


def layers(prepared: PreparedModel) -> set[str]:
    return {layer.name for layer in prepared.network.layers if layer.op != "add"}


def test_fp32_is_fp32(fp32: Path) -> None:
    """By default OpenVINO computes in bfloat16, which is a hundred times further off."""
    batch = images(fp32, 8)
    wanted, got = (runtime.run(fp32, [batch], threads=1) for runtime in (OnnxRuntime(), RUNTIME))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(np.abs(wanted).max()))


def test_int8_runs_in_integers(int8: Path, prepared: PreparedModel) -> None:
    kernels = {name: kernel for kernel, name in RUNTIME.executed(int8)}
    assert {name: kernels[name][-2:].upper() for name in layers(prepared)} == dict.fromkeys(layers(prepared), "I8")


def test_int8_gives_the_answers_of_onnxruntime(int8: Path) -> None:
    batch = images(int8, 8)
    wanted, got = (runtime.run(int8, [batch], threads=1) for runtime in (OnnxRuntime(), RUNTIME))
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_int8_results_are_exact_with_weight_bits(tmp_path: Path) -> None:
    """Full-range products must not saturate: every sum is compared with integer arithmetic."""
    largest = 2 ** (RUNTIME.weight_bits() - 1) - 1
    signs = np.where(np.arange(32) < 24, 1, -1) * np.ones((16, 1), int)
    scale = 0.01 * largest * 255 * 32 / 127
    numbers = {
        **{"one": np.float32(1), "zero": np.uint8(0), "scale": np.float32(scale), "middle": np.uint8(128)},
        **{"ws": np.full(16, 0.01, np.float32), "wz": np.zeros(16, np.int8)},
        "wq": (largest * signs).astype(np.int8)[:, :, None, None],
    }
    model = parser.parse_model(ONE_PRODUCT)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in numbers.items())
    onnx.save(model, tmp_path / "m.onnx")
    got = RUNTIME.run(tmp_path / "m.onnx", [np.full((1, 32, 1, 1), 255, np.float32)], threads=1)
    assert np.abs(got - 0.01 * largest * 255 * signs.sum(axis=1)).max() <= 0.51 * scale


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_node_times_are_named_by_the_file(
    precision: str, prepared: PreparedModel, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(precision)
    times = RUNTIME.node_times(model, Load(1, 1), runs=3)
    assert layers(prepared) <= set(times)
    inserted = {name for name in times if name.startswith("+")}
    assert set(times) - inserted <= {node.name for node in onnx.load(model).graph.node}
    assert all(ms >= 0 for ms in times.values()) and sum(times.values()) > 0


def test_the_warm_up_is_taken_out_of_the_means() -> None:
    slow, steady, runs = 900, 20, 10
    before = slow  # the mean over the warm-up alone
    after = (WARM_UP * slow + runs * steady) // (WARM_UP + runs)
    assert abs(without_warm_up(before, after, runs) - steady) < 2
    assert without_warm_up(slow, 0, runs) == 0


def corrupt(path: Path) -> None:
    path.write_bytes(b"this is no protobuf")


def unsound(path: Path) -> None:
    """A convolution without weights, on which OpenVINO crashes."""
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,1,8,8] y) { y = Conv(x) }'
    onnx.save(parser.parse_model(text), path)


def flat_input(path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }'
    onnx.save(parser.parse_model(text), path)


def without_rule(path: Path) -> None:
    """Sound ONNX with an operator that OpenVINO cannot convert."""
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Det(x) }'
    onnx.save(parser.parse_model(text), path)


@pytest.mark.parametrize("make", [lambda path: None, corrupt, unsound, flat_input, without_rule])
@pytest.mark.parametrize("verb", ["run", "latency", "node_times", "peak_memory"])
def test_a_file_that_cannot_be_used_is_one_line(
    make: Callable[[Path], None], verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "bad.onnx"
    make(model)
    calls: dict[str, Callable[[], object]] = {
        "run": lambda: RUNTIME.run(model, [np.zeros((1, 3, 8, 8), np.float32)], 1),
        "latency": lambda: RUNTIME.latency([model], Load(1, 1), 1, 1),
        "node_times": lambda: RUNTIME.node_times(model, Load(1, 1), 1),
        "peak_memory": lambda: RUNTIME.peak_memory(model, Load(1, 1)),
    }
    with pytest.raises(InputError) as caught:
        calls[verb]()
    assert str(caught.value).startswith(f"{model}: openvino cannot use this file: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_wrong_sizes_name_what_is_allowed(fp32: Path) -> None:
    with pytest.raises(InputError, match=r"\(3, 24, 24\), got \(3, 8, 8\)"):
        RUNTIME.run(fp32, [np.zeros((1, 3, 8, 8), np.float32)], 1)
    with pytest.raises(InputError, match=r"\[1, 3, 24, 24\]; allowed is one tensor\(float\) \[4 \(target\.batch\), "):
        RUNTIME.latency([fp32], Load(1, 4), 1, 1)
    with pytest.raises(InputError, match="no images"):
        RUNTIME.run(fp32, [], 1)


def test_an_open_batch_takes_any(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[n,3,2,2] x) => (float[n,12] y) { y = Flatten(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    assert RUNTIME.run(tmp_path / "m.onnx", [np.ones((5, 3, 2, 2), np.float32)], 1).shape == (5, 12)
    assert len(RUNTIME.latency([tmp_path / "m.onnx"], Load(1, 7), 1, 2)[0][0]) == 2


def test_nothing_is_reported_or_left_at_home(fp32: Path, tmp_path: Path) -> None:
    """Imported by itself, openvino writes an identifier into the home folder and sends a message."""
    command = [sys.executable, "-P", openvino_session.__file__, str(fp32), "1", "1"]
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []
