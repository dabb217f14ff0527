"""The whole command on a small model and small images: its files, its exit codes, and that it survives being killed."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from paredown.models.onnx.edit import load_onnx, zero_shares
from paredown.pipeline.cli import main
from paredown.pipeline.run.product_record import RECORD
from paredown.stages.products.product_files import NOTES

STAGES = {
    "fit": "epochs: 2, batch: 16",
    "search": "rounds: 3, front: 2, alternatives: 1",
    "recover": "distil: {epochs: 2, lr: 0.001, batch: 16}, quantize: {epochs: 1, lr: 0.0001, batch: 16}",
    "export": "agreement: 0.8",
}
RUNTIME = """
from paredown.stages.runtimes.support import ort_session as _session
from paredown.stages.runtimes.support.in_process import fresh_peak
from paredown.stages.runtimes.onnxruntime import OnnxRuntime


class Quick(OnnxRuntime):
    def latency(self, models, load, rounds, runs, seed=0):
        return super().latency(models, load, 1, 3, seed)

    def peak_memory(self, model, load):
        return fresh_peak(_session.__file__, "onnxruntime", model, load)


PLUGIN = Quick
"""
"""onnxruntime itself, measured as often as a test can wait for."""

HELD = "size: 0.6x, latency_p50: 5x, accuracy_drop: 100"
PRODUCTS = {
    "original": {"weights.safetensors", "curves.json"},
    "baseline": {"model.onnx", "evidence.json"},
    "profile": {"profile.json", "subject.json", "moments.safetensors", "pruned.safetensors"},
    "sensitivity": {"sensitivity.json"},
    "plan": {"plan.json"},
    "compressed": {"weights.safetensors"},
    "recovered": {"weights.safetensors", "ranges.json", "curves.json"},
    "exported": {"model.onnx", "parity.json"},
    "artifact": {"model.onnx", "manifest.json"},
}
THEIRS = """\
modifiers:
  - !EpochRangeModifier {start_epoch: 0.0, end_epoch: 2.0}
  - !GMPruningModifier
    start_epoch: 0.0
    end_epoch: 1.0
    update_frequency: 0.5
    init_sparsity: 0.05
    final_sparsity: 0.75
    mask_type: block4
    params: ["re:block.*weight"]
  - !QuantizationModifier {start_epoch: 1.0, ignore: [fc]}
"""
"""A recipe for SparseML."""
LATE = ("compressed", "recovered", "exported", "artifact")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def call(*arguments: str) -> Ended:
    """The command in this process, which saves importing torch again."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(arguments)
    signal.signal(signal.SIGTERM, before)
    return Ended(int(caught.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("project")
    (root / "net.py").write_text(tools.net_source)
    (root / "quick.py").write_text(RUNTIME)
    images, labels = tools.coloured_shapes(240, 32)
    np.savez(root / "images.npz", images=images, labels=labels, classes=np.array(["square", "cross", "frame"]))
    for name, limits in (("demo", HELD), ("tight", "size: 1 KiB")):
        (root / f"{name}.yaml").write_text(tools.recipe_text(limits, "quick.py", 32, **STAGES))
    return root


@pytest.fixture(scope="module")
def first(folder: Path) -> Ended:
    return call("run", str(folder / "demo.yaml"), "--out", str(folder / "runs"))


@pytest.fixture(scope="module")
def shown(folder: Path, first: Ended) -> Path:
    assert first.code == 0, first.err
    return folder / "runs" / "demo"


def test_a_run_ends_well_and_says_where_things_are(shown: Path, first: Ended, folder: Path) -> None:
    assert "9/9 verify: starts" in first.err
    assert str(shown / "artifact" / "model.onnx") in first.err
    assert str(shown / "report.html") in first.err
    assert "size" in first.out
    assert (shown / "report.html").stat().st_size > 10_000
    assert json.loads((folder / "demo.lock").read_text())["recipe"]["name"] == "demo"


@pytest.mark.parametrize("product", PRODUCTS)
def test_it_leaves_the_products_that_are_documented(shown: Path, product: str) -> None:
    files = [file.name for file in (shown / product).iterdir()]
    assert set(files) - {RECORD, NOTES} == PRODUCTS[product]
    assert len({name.casefold() for name in files}) == len(files), "they can be copied to where case does not count"


def test_the_artifact_holds_its_limits(shown: Path) -> None:
    manifest = json.loads((shown / "artifact" / "manifest.json").read_text())
    held = {check["name"] for check in manifest["checks"] if check["holds"] is True}
    assert held == {"size", "latency p50", "test accuracy"}
    sizes = [(shown / name / "model.onnx").stat().st_size for name in ("baseline", "artifact")]
    assert sizes[1] <= 0.6 * sizes[0]
    onnx.checker.check_model(onnx.load(shown / "artifact" / "model.onnx"), full_check=True)


def test_a_second_run_redoes_nothing_and_prints_its_table_as_json(shown: Path, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs" / ".store" / "objects").rglob("*")}
    ended = call("run", str(folder / "demo.yaml"), "--out", str(folder / "runs"), "--json")
    assert ended.code == 0
    assert "starts" not in ended.err
    assert ended.err.count("unchanged") == len(PRODUCTS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((folder / "runs" / ".store" / "objects").rglob("*"))) == len(before)
    table = json.loads(ended.out)
    assert table
    assert all(isinstance(row, dict) for row in table)


def test_an_impossible_limit_is_one_line_and_keeps_the_nearest_plan(shown: Path, folder: Path) -> None:
    ended = call("run", str(folder / "tight.yaml"), "--out", str(folder / "runs"))
    assert ended.code == 3
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert "no plan meets the limits: size can reach" in line
    assert "the limit leaves 0.000" in line
    assert "the nearest plan reaches size" in line
    plan = json.loads((folder / "runs" / "tight" / "plan" / "plan.json").read_text())
    assert plan["feasible"] is False
    assert plan["choice"]
    assert not (folder / "runs" / "tight" / "artifact").exists()
    assert "sensitivity: unchanged" in ended.err, "the limits decide nothing before the search"


def test_a_front_is_finished_model_by_model(shown: Path, folder: Path) -> None:
    (folder / "front.yaml").write_text("front: [4x, 0.001x]\n" + (folder / "demo.yaml").read_text())
    ended = call("run", str(folder / "front.yaml"), "--out", str(folder / "runs"), "--json")
    assert ended.code == 3
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: 0.001x: no plan meets the limits")
    good, bad = json.loads(ended.out)
    assert (good["limit"], good["all limits hold"], bad["limit"], bad["all limits hold"]) == (
        "4x",
        True,
        "0.001x",
        False,
    )
    assert 0 < good["size"] <= 0.6 and bad["size"] is None
    assert (folder / "runs" / "front-4x" / "artifact" / "model.onnx").exists()
    assert (folder / "runs" / "front-0.001x" / "report.html").exists()
    assert json.loads((folder / "front-4x.lock").read_text())["recipe"]["name"] == "front-4x"
    assert "sensitivity: unchanged" in ended.err, "what does not depend on limits is shared"
    reports = call("report", str(folder / "front.yaml"), "--out", str(folder / "runs"))
    assert reports.out.split() == [str(folder / "runs" / f"front-{name}" / "report.html") for name in ("4x", "0.001x")]


def killed_once(root: Path, wait: Callable[[], float]) -> bool:
    """Starts the real command, and kills it a moment after the first late stage began; False if it was too late."""
    log = root / "log.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "paredown.pipeline.cli", "run", "demo.yaml", "--out", "runs"]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None and not any(f"{name}: " in log.read_text() for name in ("compress", "recover")):
            time.sleep(0.02)
        time.sleep(wait())
        process.kill()
        return process.wait() == -signal.SIGKILL


def test_killed_at_random_moments_it_ends_in_the_same_weights(shown: Path, folder: Path, tmp_path: Path) -> None:
    """From the same plan: latencies are measured, so another search might find another plan."""
    root = tmp_path / "project"
    shutil.copytree(folder, root, symlinks=True)
    for name in LATE:
        shutil.rmtree((root / "runs" / "demo" / name).resolve())
        (root / "runs" / "demo" / name).unlink()
    moments = random.Random(7)
    kills = [killed_once(root, lambda: moments.uniform(0, 2.5)) for _ in range(3)]
    assert any(kills)
    ended = call("run", str(root / "demo.yaml"), "--out", str(root / "runs"))
    assert ended.code == 0, ended.err
    for name in ("compressed", "recovered"):
        files = [path / name / "weights.safetensors" for path in (shown, root / "runs" / "demo")]
        assert files[0].read_bytes() == files[1].read_bytes()
    artifacts = [path / "artifact" / "model.onnx" for path in (shown, root / "runs" / "demo")]
    assert artifacts[0].read_bytes() == artifacts[1].read_bytes()


def test_an_imported_recipe_runs_and_ends_as_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("theirs.yaml").write_text(THEIRS)
    made = call("import-recipe", "theirs.yaml", "net.py:net", "images.npz", "-o", "ours.yaml", "--image-size", "32")
    assert made.code == 0, made.err
    text = Path("ours.yaml").read_text().replace("runtime: onnxruntime", "runtime: quick.py")
    Path("ours.yaml").write_text(text.replace("accuracy_drop: 1.0", "accuracy_drop: 100"))
    ran = call("run", "ours.yaml")
    assert ran.code == 0, ran.err
    artifact = Path("runs/ours/artifact/model.onnx.gz")
    assert f"artifact: {artifact}" in ran.err
    zeros = zero_shares(load_onnx(artifact))
    assert zeros["block.conv1"] >= 0.75 and zeros["block.conv2"] >= 0.75
    assert max(zeros[name] for name in ("stem.0", "depthwise", "pointwise.0", "fc")) < 0.3
    layers = json.loads(Path("runs/ours/plan/plan.json").read_text())["layers"]
    assert {layer["name"] for layer in layers if layer["bits"] == 32 and layer["op"] != "add"} >= {"fc"}
    ended = call("export-recipe", "ours.yaml", "-o", "back.yaml")
    assert ended.code == 0, ended.err
    back = Path("back.yaml").read_text()
    assert "final_sparsity: 0.75" in back and "block.conv1.weight" in back and "QuantizationModifier" in back
