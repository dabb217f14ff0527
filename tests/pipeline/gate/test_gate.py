"""The gate's whole path: evidence that cannot be trusted, baselines that are pinned, images, and who is to blame."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import quantize_static

from paredown.models.errors import InputError
from paredown.models.files import digest_file
from paredown.models.onnx.integer_rules import signed_kernels
from paredown.models.progress import silent_progress
from paredown.pipeline.gate.baseline_pin import pinned_baseline, update_baseline
from paredown.pipeline.gate.budgets import Budgets, Gates
from paredown.pipeline.gate.gate import GateRequest, run_gate
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome
from paredown.stages.limits import Target
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

Bench = Any


def outcome(
    bench: Bench, model: Path, baseline: Path | None = None, *, static: bool = False, **keys: Any
) -> GateOutcome:
    return run_gate(GateRequest(model, baseline, bench.gates(**keys), static), silent_progress)


def test_a_slow_layer_is_named(bench: Bench) -> None:
    found = outcome(bench, bench.one, bench.int8, budgets={"latency_p50": "1.05x"})
    assert found.verdict == "fail"
    assert found.checks[0].layers == ("block.conv2 (Conv, fp32) +0.332 ms",)
    assert found.sha256[str(bench.one)] == digest_file(bench.one)


def test_static_starts_no_runtime_and_says_what_was_not_measured(bench: Bench) -> None:
    (bench.folder / "noisy.py").write_text("PLUGIN = None\nraise AssertionError('the runtime was loaded')")
    budgets = {"bytes": "1x", "latency_p50": "1x", "peak_memory": "1x"}
    found = outcome(bench, bench.int8, bench.int8, static=True, budgets=budgets)
    assert [check.name for check in found.checks] == ["bytes"]
    assert found.verdict == "pass"
    assert "not measured (--static): latency_p50, peak_memory" in found.facts


@pytest.mark.parametrize(("target", "caches"), [({}, "cold"), ({"caches": "cold"}, "cold"), ({"caches": "hot"}, "hot")])
def test_it_measures_with_the_caches_of_the_target_and_says_so(
    bench: Bench, target: dict[str, str], caches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = bench.gates(budgets={"latency_p50": "1.05x"})
    gates = gates.model_copy(update={"target": Target.model_validate({"runtime": "onnxruntime", **target})})
    seen = set[str]()

    def watched(self: OnnxRuntime, models: Any, load: Load, *more: Any) -> Any:
        seen.add(load.caches)
        return [[[1.0] * 5] for _ in models]

    monkeypatch.setattr(OnnxRuntime, "latency", watched)
    found = run_gate(GateRequest(bench.int8, bench.int8, gates), silent_progress)
    assert seen == {caches} and found.verdict == "pass"
    assert [fact for fact in found.facts if fact.startswith(f"caches are {caches}: ")]


def test_factors_need_a_baseline(bench: Bench) -> None:
    with pytest.raises(InputError, match="factors"):
        outcome(bench, bench.int8, budgets={"bytes": "1x"})


def test_absolute_limits_need_none(bench: Bench) -> None:
    keys = {"budgets": {"latency_p50": "1 ms"}, "machine": {"cpu": "test"}}
    assert outcome(bench, bench.int8, **keys).verdict == "pass"
    keys["machine"] = {"cpu": "another"}
    assert outcome(bench, bench.int8, **keys).verdict == "inconclusive"


def test_a_manifest_of_another_file_is_false_evidence(bench: Bench) -> None:
    manifest = bench.folder / "manifest.json"
    manifest.write_text(json.dumps({"paredown": "1", "sha256": {"int8.onnx": digest_file(bench.int8)}}))
    keys: dict[str, Any] = {"static": True, "budgets": {"bytes": "1 MiB"}}
    assert outcome(bench, bench.int8, **keys).verdict == "pass"
    shutil.copyfile(bench.one, bench.int8)
    with pytest.raises(InputError, match=r"int8\.onnx is not the model that .*manifest\.json is about"):
        outcome(bench, bench.int8, **keys)


@pytest.mark.parametrize("text", ["[]", "{}", '{"name": "a web page"}', '{"sha256": 3}'])
def test_a_manifest_of_something_else_is_no_evidence(bench: Bench, text: str) -> None:
    (bench.folder / "manifest.json").write_text(text)
    assert outcome(bench, bench.int8, static=True, budgets={"bytes": "1 MiB"}).verdict == "pass"


@pytest.mark.parametrize("text", ["", '{"paredown": "1", "sha256": 3}', "\x00", "[" * 100_000])
def test_a_broken_manifest_is_one_line(bench: Bench, text: str) -> None:
    (bench.folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json(:| cannot be read)") as caught:
        outcome(bench, bench.int8, static=True, budgets={"bytes": "1 MiB"})
    assert "\n" not in str(caught.value)


@pytest.fixture
def images(bench: Bench, tools: Any) -> dict[str, Any]:
    pixels, labels = tools.coloured_shapes(96, 24)
    np.savez(bench.folder / "images.npz", images=pixels, labels=labels)
    return {"source": "images.npz", "image_size": 24}


def test_accuracy_and_parity_need_no_more_than_images(bench: Bench, images: dict[str, Any]) -> None:
    budgets = {"accuracy_drop": 0, "parity": 1, "accuracy": 99.5}
    drop, floor, parity = _by_limit(outcome(bench, bench.int8, bench.int8, budgets=budgets, data=images))
    assert (drop.verdict, floor.verdict, parity.verdict) == ("pass", "fail", "pass")
    assert drop.before == drop.after == floor.after
    assert (parity.after, parity.least) == (100, True)
    assert "on 24 test images, only the baseline is right on 0, only the model on 0: +0.00 points (" in drop.because
    assert drop.change and drop.change.low < 0 < drop.change.high
    assert floor.after_ends and floor.after_ends[0] < floor.after < floor.after_ends[1]
    assert f"({floor.after_ends[0]:.2f} to {floor.after_ends[1]:.2f})" in floor.because
    assert parity.after_ends and parity.after_ends[0] < 100 == parity.after_ends[1]


def test_what_the_images_cannot_tell_of_a_drop_is_a_warning(bench: Bench, images: dict[str, Any]) -> None:
    found = outcome(bench, bench.int8, bench.int8, budgets={"accuracy_drop": 1}, data=images)
    (line,) = [line for line in found.warnings if "cannot tell" in line]
    assert line.startswith("accuracy: 24 images cannot tell 1 point; about ") and line.endswith("with 99 % confidence")
    loose = outcome(bench, bench.int8, bench.int8, budgets={"accuracy_drop": 60}, data=images)
    assert not [line for line in loose.warnings if "cannot tell" in line]


def _by_limit(found: GateOutcome) -> list[BudgetCheck]:
    """Those of the drop, the floor and the parity."""
    by_limit = {check.limit: check for check in found.checks}
    return [by_limit[limit] for limit in ("0 points under the baseline", "99.5 %", "100 %")]


def test_a_model_that_answers_otherwise_is_no_twin(bench: Bench, images: dict[str, Any], models: Any) -> None:
    from paredown.models.onnx.edit import layer_weight, save_onnx, set_weight

    turned = models["fp32"]
    set_weight(turned, "fc.weight", -layer_weight(turned, "fc"))
    save_onnx(turned, bench.folder / "turned.onnx")
    found = outcome(bench, bench.turned, bench.fp32, budgets={"parity": 0.9}, data=images)
    assert found.verdict == "fail"
    assert found.checks[0].after < 50


@pytest.fixture
def pin(bench: Bench) -> Callable[[Path], str]:
    """Makes a model the baseline; gives the diff."""
    budgets = bench.write(baseline="kept/base.onnx", budgets={"bytes": "1x"})

    def update(model: Path) -> str:
        return update_baseline(bench.gates(baseline="kept/base.onnx", budgets={"bytes": "1x"}), budgets, model)

    return update


def test_a_baseline_is_kept_and_pinned(bench: Bench, pin: Callable[[Path], str]) -> None:
    pin(bench.int8)
    gates, budgets = bench.gates(baseline="kept/base.onnx", budgets={"bytes": "1x"}), bench.folder / "gates.yaml"
    path = pinned_baseline(gates, budgets)
    assert path is not None
    assert path.read_bytes() == bench.int8.read_bytes()
    assert pin(bench.int8) == ""
    shutil.copyfile(bench.one, path)
    with pytest.raises(InputError, match="is not the baseline that"):
        pinned_baseline(gates, budgets)
    path.unlink()
    with pytest.raises(
        InputError, match=r"does not exist; to make it: paredown gate MODEL --budgets .* --update-baseline"
    ):
        pinned_baseline(gates, budgets)


def test_a_packed_baseline_is_called_so(bench: Bench, pin: Callable[[Path], str]) -> None:
    packed = bench.folder / "int8.onnx.gz"
    packed.write_bytes(gzip.compress(bench.int8.read_bytes()))
    with pytest.raises(InputError, match=r"base\.onnx should end with \.gz where int8\.onnx\.gz does"):
        pin(packed)


def test_a_lock_never_replaces_the_budgets_file(bench: Bench) -> None:
    budgets = bench.write(budgets={"bytes": "1x"}, baseline="base.onnx").rename(bench.folder / "gates.lock")
    before = budgets.read_text()
    with pytest.raises(InputError, match="cannot be called that"):
        update_baseline(bench.gates(budgets={"bytes": "1x"}, baseline="base.onnx"), budgets, bench.int8)
    assert budgets.read_text() == before


def test_a_new_baseline_shows_what_changes(bench: Bench, pin: Callable[[Path], str]) -> None:
    pin(bench.int8)
    changes = [line for line in pin(bench.one).splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    diff = "\n".join(changes)
    assert '-  "block.conv2": "Conv int8' in diff
    assert '+  "block.conv2": "Conv fp32' in diff
    assert "block.conv1" not in diff
    assert any(line.startswith('+ "sha256"') for line in changes)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sha256": 1}', "\xff", "[" * 100_000])
def test_a_baseline_without_a_sound_lock_is_refused(bench: Bench, pin: Callable[[Path], str], text: str | None) -> None:
    pin(bench.int8)
    lock = bench.folder / "gates.lock"
    lock.unlink()
    if text is not None:
        lock.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"gates\.lock") as caught:
        pinned_baseline(bench.gates(baseline="kept/base.onnx", budgets={"bytes": "1x"}), bench.folder / "gates.yaml")
    assert "\n" not in str(caught.value)


def test_a_budgets_file_without_a_baseline_cannot_be_updated(bench: Bench) -> None:
    gates = Gates(budgets=Budgets.model_validate({"bytes": "1 MiB"}))
    with pytest.raises(InputError, match="names no baseline"):
        update_baseline(gates, bench.folder / "gates.yaml", bench.int8)


class _Noise:
    """Calibration images as onnxruntime's quantizer reads them."""

    def __init__(self) -> None:
        self.left = [np.random.default_rng(i).standard_normal((1, 3, 24, 24), np.float32) for i in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"x": self.left.pop()} if self.left else None


@pytest.mark.skipif(signed_kernels(), reason="signed activations are integers on this CPU")
@pytest.mark.parametrize("static", [True, False])
def test_int8_that_is_computed_in_float_is_named_and_explained(bench: Bench, static: bool) -> None:
    quantize_static(bench.fp32, bench.signed, _Noise(), per_channel=True)  # its default: signed activations
    keys = {"budgets": {"unquantized": 0}, "target": {"runtime": "onnxruntime"}}
    (check,) = outcome(bench, bench.signed, static=static, **keys).checks
    assert (check.verdict, check.after) == ("fail", 3)
    assert "computed in float on this CPU: signed activations that more than one node reads (3)" in check.because
    assert [layer.split(" (")[0] for layer in check.layers] == ["stem.0", "block.conv1", "add"]
    assert outcome(bench, bench.int8, static=static, **keys).verdict == "pass"
