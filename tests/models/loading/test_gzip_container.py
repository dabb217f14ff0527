"""Files in a container: the same model in fewer bytes, and what opens them."""

import gzip
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.compression.sparsity import Sparsity, prune_by_magnitude
from paredown.models.errors import InputError
from paredown.models.onnx.edit import copy_of_model, load_onnx, save_onnx, set_weight, zero_shares
from paredown.stages import plugins
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.limits import Target
from paredown.stages.measuring.target_runtime import target_runtime
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 24, 24), np.float32)


@pytest.fixture
def both(prepared: PreparedModel, tmp_path: Path) -> tuple[Path, Path]:
    """The same model plain and packed."""
    files = tmp_path / "model.onnx", tmp_path / "model.onnx.gz"
    for file in files:
        save_onnx(prepared.model, file)
    return files


def test_the_same_model_gives_the_same_bytes_and_is_read_again(
    both: tuple[Path, Path], prepared: PreparedModel
) -> None:
    first = both[1].read_bytes()
    save_onnx(prepared.model, both[1])
    assert both[1].read_bytes() == first
    assert load_onnx(both[1]) == load_onnx(both[0]) == prepared.model
    assert len(first) < both[0].stat().st_size


def test_the_loader_that_the_readme_tells_is_enough(both: tuple[Path, Path]) -> None:
    with gzip.open(both[1]) as file:
        session = onnxruntime.InferenceSession(file.read(), providers=["CPUExecutionProvider"])
    plain = OnnxRuntime().run(both[0], [IMAGES], 1)
    got = np.concatenate([session.run(None, {"x": IMAGES[i : i + 1]})[0] for i in range(3)])
    assert np.allclose(got, plain, atol=1e-5)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_open_it_as_they_open_the_plain_file(name: str, both: tuple[Path, Path]) -> None:
    if line := plugins.missing_requirement("runtimes", name):
        pytest.skip(line)
    runtime = target_runtime(Target(runtime=name, container="gzip"), Path())
    plain, packed = (runtime.run(file, [IMAGES], 1) for file in both)
    assert np.array_equal(plain, packed)
    assert runtime.node_times(both[1], Load(1, 1), 2).keys() == runtime.node_times(both[0], Load(1, 1), 2).keys()
    assert [len(times) for times in runtime.latency(both, Load(1, 1), rounds=1, runs=2)] == [1, 1]
    assert runtime.peak_memory(both[1], Load(1, 1)) > 0


def test_a_damaged_file_is_refused_in_one_line(both: tuple[Path, Path]) -> None:
    for content in (both[1].read_bytes()[:200], b"no gzip at all", b""):
        both[1].write_bytes(content)
        with pytest.raises(InputError, match=r"model\.onnx\.gz: onnxruntime cannot use this file: .*") as caught:
            OnnxRuntime().run(both[1], [IMAGES], 1)
        assert "\n" not in str(caught.value)


def test_a_runtime_that_cannot_open_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text(
        "from paredown.stages.runtimes.onnxruntime import OnnxRuntime\n\n\nclass Plain(OnnxRuntime):\n"
        "    def supports(self, feature):\n        return feature == 'int8'\n\n\nPLUGIN = Plain\n"
    )
    with pytest.raises(InputError, match=r"target\.container: .*plain\.py cannot open gzip files; allowed: plain"):
        target_runtime(Target(runtime=str(file), container="gzip"), Path())


def test_a_runtime_that_cannot_measure_with_cold_caches_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loops.py"
    file.write_text(
        "from paredown.stages.runtimes.onnxruntime import OnnxRuntime\n\n\nclass Loops(OnnxRuntime):\n"
        "    def supports(self, feature):\n        return feature == 'int8'\n\n\nPLUGIN = Loops\n"
    )
    with pytest.raises(InputError, match=r"target\.caches: Loops reads no other memory between two runs; allowed: hot"):
        target_runtime(Target(runtime=str(file)), Path())
    assert target_runtime(Target(runtime=str(file), caches="hot"), Path())


def test_zeros_are_counted_in_the_file(prepared: PreparedModel) -> None:
    model, name = copy_of_model(prepared.model), "block.conv1"
    weight = prepared.network.module.get_parameter(f"{name}.weight").detach()
    pruned = prune_by_magnitude(weight, Sparsity("block4", 0.75))
    set_weight(model, f"{name}.weight", pruned.numpy())
    assert zero_shares(model)[name] == pytest.approx(0.75, abs=0.01)
    assert zero_shares(model)["block.conv2"] == 0
    int8 = insert_qdq(model, quantizable_nodes(model), prepared.ranges, 8)
    assert zero_shares(int8)[name] >= 0.75
    assert set(zero_shares(int8)) == {"stem.0", "block.conv1", "block.conv2", "depthwise", "pointwise.0", "fc"}
