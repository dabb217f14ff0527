"""A sound artifact keeps its promises; what is broken, missing or made up is found, and nothing of it is run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import paredown
from paredown.models.data.opening import open_test_images
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError
from paredown.models.files import digest_file
from paredown.pipeline.commands.verify import verify_verb
from paredown.stages.measuring.accuracy import FileAnswers
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

Release = Any
LIMITED = ("latency p50", "size")


def called(release: Release, *options: object) -> Result:
    arguments = [release.folder, "--runtime", release.runtime, "--seconds", "60", *options]
    return CliRunner().invoke(verify_verb, [str(one) for one in arguments])


def test_a_sound_artifact_keeps_its_promises(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.with_original()
    monkeypatch.chdir(release.root)  # where the recipe's images are
    verification = release.verify()
    found = {one.name: one for one in verification.promises}
    assert {name: one.finding for name, one in found.items()} == {
        "file model.onnx": "pass",
        "metadata": "pass",
        "latency p50": "pass",
        "latency p95": "no limit",
        "size": "pass",
        "peak memory": "no limit",
        "test accuracy": "no limit",
        "agreement": "not checked",
    }
    assert verification.verdict == "pass" and verification.holds
    manifest = release.manifest()
    p50, size, accuracy = found["latency p50"], found["size"], found["test accuracy"]
    assert (p50.unit, p50.promised, p50.limit) == ("x", 0.5, "0.5x")
    assert p50.value == pytest.approx(manifest["ratios"]["latency_p50"]) == p50.told
    assert p50.ends is not None and p50.ends[0] <= p50.value <= p50.ends[1]
    assert size.value == pytest.approx(manifest["ratios"]["size"]) and size.ends is None
    assert accuracy.after == pytest.approx(manifest["artifact"]["accuracy"]["test"])
    assert accuracy.before == pytest.approx(manifest["baseline"]["accuracy"]["test"])


def test_without_its_original_and_images_the_rest_is_checked(release: Release, tmp_path: Path) -> None:
    verification = release.verify()
    found = {one.name: one for one in verification.promises}
    assert {found[name].finding for name in LIMITED} == {"not checked"}
    assert all("needs the original" in found[name].because for name in LIMITED)
    assert "needs the images" in found["test accuracy"].because
    assert found["latency p50"].after == pytest.approx(release.manifest()["artifact"]["latency"]["p50"])
    assert verification.verdict == "inconclusive"


def test_the_original_may_be_named_but_only_the_right_one(release: Release, tmp_path: Path) -> None:
    assert {release.found(baseline=release.original)[name].finding for name in LIMITED} == {"pass"}
    other = shutil.copy(release.model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"other\.onnx is not the original that the manifest names: its sha256 is"):
        release.verify(baseline=Path(other))
    release.change("sha256", value={"model.onnx": digest_file(release.model)})
    with pytest.raises(InputError, match=r"model\.onnx: the manifest names no original"):
        release.verify(baseline=release.original)


def test_another_file_breaks_its_promise_and_is_not_run(release: Release) -> None:
    release.with_original()
    release.model.write_bytes(b"no model at all")
    verification = release.verify()
    assert [one.name for one in verification.broken] == ["file model.onnx"]
    assert verification.verdict == "fail" and verification.runtime == ""
    assert {one.finding for one in verification.promises} == {"fail", "not checked"}


def test_limits_that_do_not_hold_are_broken_promises(release: Release) -> None:
    release.with_original()
    release.change("limits", "latency_p50", value={"value": 0.05, "unit": "x"})
    release.change("limits", "peak_memory", value={"value": 1.0, "unit": "MiB"})
    release.change("limits", "size", value={"value": 0.05, "unit": "x"})
    found = release.found()
    broken = {name for name, one in found.items() if one.finding == "fail"}
    assert broken == {"latency p50", "size", "peak memory", "metadata"}  # the file itself says what the limits were
    assert "limits" in found["metadata"].because
    assert found["peak memory"].value > 1 == found["peak memory"].promised


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("artifact", "accuracy", "test"), 99.9),
        (("data", "licence"), "public domain"),
        (("seed",), 7),
        (("plan",), {"quantize:fc": "fp32"}),
        (("versions", "torch"), "1.0"),
    ],
    ids=str,
)
def test_a_manifest_that_says_otherwise_than_the_file_is_found(
    release: Release, path: tuple[str, ...], value: object
) -> None:
    release.change(*path, value=value)
    metadata = release.found()["metadata"]
    assert metadata.finding == "fail" and {"artifact": "accuracy"}.get(path[0], path[0]) in metadata.because


def test_a_file_that_lost_what_it_said_of_itself_is_found(release: Release) -> None:
    model = onnx.load(release.model)
    del model.metadata_props[:]
    onnx.save(model, release.model)
    release.change("sha256", "model.onnx", value=digest_file(release.model))
    assert "says nothing of itself" in release.found()["metadata"].because


def test_absolute_times_count_only_where_they_were_measured(release: Release) -> None:
    release.change("limits", "latency_p50", value={"value": 50.0, "unit": "ms"})
    assert release.found()["latency p50"].finding == "pass"
    release.change("artifact", "machine", "cpu", value="Zuse Z4")
    verification = release.verify()
    p50 = {one.name: one for one in verification.promises}["latency p50"]
    assert p50.finding == "not comparable" and "Zuse Z4" in p50.because
    assert p50.value is not None
    assert any("absolute ms and MiB count only there" in fact for fact in verification.facts)
    release.change("limits", "latency_p50", value={"value": 0.5, "unit": "x"})
    assert release.found(baseline=release.original)["latency p50"].finding == "pass"


def test_accuracy_is_checked_on_images_that_a_person_names(release: Release, tmp_path: Path, tools: Any) -> None:
    images, labels = tools.coloured_shapes(120, tools.shape[1], seed=9)
    np.savez(tmp_path / "held.npz", images=images, labels=labels)
    spec = DataSpec(source="held.npz", image_size=tools.shape[1])
    data = open_test_images(spec, tmp_path, tmp_path)
    answers = FileAnswers.read(release.original, data.classes).on(data, data.test, OnnxRuntime(), Load(1, 1)).classes
    np.savez(tmp_path / "held.npz", images=images, labels=answers)  # so that the original is always right
    release.change("limits", "accuracy_drop", value=5.0)
    given = {"baseline": release.original, "data": str(tmp_path / "held.npz")}
    sound = release.found(**given)["test accuracy"]
    assert sound.before == 100 and sound.value == pytest.approx(100 - sound.after)
    assert "120 test images that the manifest does not name" in sound.because
    assert sound.ends is not None and sound.ends[0] < sound.value < sound.ends[1]
    release.spoil(int(np.bincount(answers, minlength=3).argmin()))
    broken = release.found(**given)["test accuracy"]
    assert broken.finding == "fail" and broken.value > 60 and broken.ends[0] > 5


def test_the_recipes_own_images_count_as_they_are(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(release.root)
    release.change("limits", "accuracy_drop", value=1.0)
    release.change("baseline", "accuracy", "test", value=100.0)
    broken = release.found()["test accuracy"]
    assert broken.finding == "fail" and "the recipe's own test images" in broken.because
    assert broken.value == pytest.approx(100 - release.manifest()["artifact"]["accuracy"]["test"])
    release.change("data", "fingerprint", value="0" * 64)
    other = release.found()["test accuracy"]
    assert other.finding == "not checked" and "holds others now" in other.because


def test_the_end_of_an_interval_cannot_be_checked_without_the_original(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(release.root)
    release.change("limits", "accuracy_drop", value=60.0)
    assert release.found()["test accuracy"].finding == "pass"
    release.change("limits", "confidence", value=0.95)
    alone = release.found()["test accuracy"]
    assert alone.finding == "not checked" and "its interval needs the original" in alone.because
    assert release.found(baseline=release.original)["test accuracy"].finding == "pass"
    release.change("limits", "accuracy_drop", value=0.001)
    release.change("baseline", "accuracy", "test", value=100.0)
    assert release.found()["test accuracy"].finding == "fail"


def test_code_that_a_manifest_names_is_not_run(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(release.folder)
    (release.folder / "evil.py").write_text("open('ran', 'w')\ndef make(): ...\nPLUGIN = object\n")
    release.change("data", "spec", "source", value="evil.py:make")
    assert "which code makes" in release.found()["test accuracy"].because
    release.change("target", "runtime", value="evil.py")
    with pytest.raises(InputError, match=r"the runtime 'evil\.py' is none that is installed .* named with --runtime"):
        release.verify(runtime=None)
    assert not (release.folder / "ran").exists()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("limits", "latency_p50"), {"value": -1, "unit": "x"}, "limits: latency_p50"),
        (("limits", "latency_p50"), {"value": float("nan"), "unit": "x"}, "limits: latency_p50"),
        (("limits", "speed"), 3, "limits: speed"),
        (("limits",), [], "damaged"),
        (("target", "threads"), 10**9, "threads"),
        (("target", "batch"), 0, "batch"),
        (("sha256", "../../etc/passwd"), "0" * 64, "is no file of an artifact"),
        (("sha256", "model.onnx"), "0", "64 hex digits"),
        (("sha256",), {}, "no digest of model.onnx"),
        (("artifact",), None, "damaged"),
        (("data", "spec"), {"source": 3}, "the manifest's data"),
    ],
    ids=str,
)
def test_a_hostile_manifest_is_refused_in_one_line(
    release: Release, path: tuple[str, ...], value: object, said: str
) -> None:
    release.change(*path, value=value)
    result = called(release)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ") and said in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_manifest_nothing_is_promised(release: Release) -> None:
    (release.folder / "manifest.json").unlink()
    result = called(release)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no manifest.json beside it, so nothing is promised" in result.stderr


def test_exit_codes_are_those_of_the_gate(release: Release) -> None:
    assert called(release).exit_code == 3
    assert called(release, "--inconclusive", "pass").exit_code == 0
    release.with_original()
    held = called(release)
    assert held.exit_code == 0 and "4 of 4 promises hold" in held.stdout.replace("\n", " ")
    release.change("limits", "size", value={"value": 0.01, "unit": "x"})
    broken = called(release)
    assert broken.exit_code == 1 and "broken: metadata, size" in " ".join(broken.stdout.split())


def test_json_and_python_say_the_same(release: Release) -> None:
    release.with_original()
    content = json.loads(called(release, "--json").stdout)
    result = paredown.verify(release.folder, runtime=release.runtime, seconds=60)
    assert content["verdict"] == result.verdict == "pass"
    by_name = {one["name"]: one for one in content["promises"]}
    assert by_name["latency p50"]["value"] == pytest.approx(result.promises[2].value)
    assert by_name["latency p50"]["ends"] == pytest.approx(result.promises[2].ends)


def test_it_needs_no_torch() -> None:
    code = "import sys, paredown.pipeline.promises.verification; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
