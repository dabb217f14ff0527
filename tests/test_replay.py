"""A run whose lock is replayed in an empty folder, and everything that may have changed in between."""

import contextlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.pipeline.cli import main
from paredown.pipeline.lock import locked_run
from paredown.pipeline.lock.lock import read_lock
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline

LIMITS = "size: 0.6x, latency_p50: 0.5x, accuracy_drop: 100"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """What it says is wrong, in one line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


def call(*arguments: str | Path) -> Ended:
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    signal.signal(signal.SIGTERM, before)
    return Ended(int(caught.value.code or 0), out.getvalue(), err.getvalue())


def _warnings(said: str) -> list[str]:
    """The warnings of a run, without those on its network, which is trained for one epoch and answers like that."""
    lines = [line for line in said.splitlines() if line.startswith("warning: ")]
    return [line for line in lines if not line.startswith(("warning: the original: ", "warning: fit: trained for "))]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    """A project with its lock after a run, and without its runs."""
    root: Path = tmp_path_factory.mktemp("project")
    (root / "net.py").write_text(tools.net_source)
    (root / "exact.py").write_text(tools.runtime_source)
    images, labels = tools.coloured_shapes(192, 24)
    np.savez(root / "images.npz", images=images, labels=labels)
    (root / "demo.yaml").write_text(tools.recipe_text(LIMITS))
    ended = call("run", root / "demo.yaml", "--out", root / "runs")
    assert ended.code == 0, ended.err
    shutil.rmtree(root / "runs")
    return root


@pytest.fixture(scope="module")
def replayed(origin: Path) -> Ended:
    """The first replay; later ones in the same folder find its products."""
    return call("run", origin / "demo.yaml", "--out", origin / "again", "--locked")


@pytest.fixture
def copy(origin: Path, tmp_path: Path) -> Path:
    """The project to change, with no runs."""
    return Path(shutil.copytree(origin, tmp_path / "copy", ignore=shutil.ignore_patterns("again")))


@pytest.fixture
def edited(origin: Path, replayed: Ended) -> Callable[..., Ended]:
    """Replays, beside the products of the first replay, a lock in which values at some paths are others."""

    def replay_with(changes: dict[tuple[str, ...], Any]) -> Ended:
        lock = origin / "demo.lock"
        before = lock.read_text()
        content = json.loads(before)
        for path, value in changes.items():
            place = content
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        lock.write_text(json.dumps(content))
        try:
            return call("run", origin / "demo.yaml", "--out", origin / "again", "--locked")
        finally:
            lock.write_text(before)

    return replay_with


def test_the_lock_holds_what_the_run_resolved_to(origin: Path) -> None:
    text = (origin / "demo.lock").read_text()
    lock = read_lock(origin / "demo.lock")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    assert lock.recipe.stages[0] == "fit"
    assert lock.recipe.options["limits"] == {"size": "0.6x", "latency_p50": "0.5x", "accuracy_drop": 100.0}
    assert {name: split.count for name, split in lock.inputs.splits.items()} == {
        "train": 105,
        "calibration": 9,
        "validation": 30,
        "test": 48,
    }
    assert set(lock.inputs.files) == {"exact.py"}
    assert lock.inputs.weights is None and lock.inputs.model is not None
    assert set(lock.decisions.bf16) == {"fit", "distil", "quantize"}
    assert (lock.decisions.threads, lock.decisions.device, lock.decisions.processes) == ((1,), ("cpu",), (1,))
    assert lock.decisions.transforms == ("narrow", "quantize")
    assert lock.environment.runtime == "exact 1"
    assert (lock.environment.weight_bits, lock.environment.width_multiple) == (7, 8)
    assert {"python", "torch", "onnx", "pillow", "onnxscript"} <= set(lock.environment.packages)
    assert lock.search and lock.search.solver == {"milp": {}} and lock.search.measured["latency"] > 0
    assert lock.search.latency_table
    assert {"original/weights.safetensors", "recovered/weights.safetensors"} <= set(lock.products)
    assert "exported/model.onnx" in lock.products and set(lock.artifact) == {"model.onnx"}
    assert {site.partition(":")[0] for site in lock.plan} == {"narrow", "quantize"}


def test_a_replay_in_an_empty_folder_gives_the_same_file_without_a_search(origin: Path, replayed: Ended) -> None:
    assert replayed.code == 0, replayed.err
    assert "the artifact is that of" in replayed.err
    assert "4/8 replay: starts" in replayed.err
    assert not any(word in replayed.err for word in ("search", "sensitivity"))
    assert _warnings(replayed.err) == []
    manifest = json.loads((origin / "again" / "demo" / "artifact" / "manifest.json").read_text())
    lock = read_lock(origin / "demo.lock")
    assert manifest["sha256"]["model.onnx"] == lock.artifact["model.onnx"]
    assert manifest["artifact"]["latency"]["p50"] > 0
    assert "test accuracy" in replayed.out
    profile = json.loads((origin / "again" / "demo" / "profile" / "profile.json").read_text())
    assert set(profile) == {"transforms", "sites"}
    assert "nothing was searched" in (origin / "again" / "demo" / "report.html").read_text()


def test_a_replay_leaves_the_lock_as_it_is_and_redoes_nothing(origin: Path, replayed: Ended) -> None:
    before = (origin / "demo.lock").read_bytes()
    again = call("run", origin / "demo.yaml", "--out", origin / "again", "--locked", "--json")
    assert again.code == 0
    assert again.err.count("unchanged") == 8
    assert (origin / "demo.lock").read_bytes() == before
    assert json.loads(again.out)[0]["name"] == "latency p50"
    assert read_lock(origin / "again" / "demo" / "run.lock").search is None


def test_a_killed_replay_goes_on(copy: Path) -> None:
    (one,) = locked_run.locked_runs(load_recipe(copy / "demo.yaml"), copy / "demo.yaml", copy / "runs")

    def stop(text: str, done: float, total: float) -> None:
        if "recover: quantize" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(one.recipe, copy / "runs", progress=stop, overrides=one.decided())
    ended = call("run", copy / "demo.yaml", "--out", copy / "runs", "--locked")
    assert ended.code == 0, ended.err
    assert ended.err.count("unchanged") == 5
    assert "distil" not in ended.err, "the checkpoint of the phase that was done is gone on from"


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("demo.yaml", lambda t: t.replace("size: 0.6x", "size: 0.7x"), 'limits.size is "0.7x", the lock has "0.6x"'),
        ("demo.yaml", lambda t: t + "seed: 3\n", "recipe: seed is 3, the lock has 0"),
        ("demo.yaml", lambda t: t.replace("epochs: 1", "epochs: 2", 1), "pipeline.fit.epochs is 2"),
        ("net.py", lambda t: t + "# other\n", "model is "),
        ("exact.py", lambda t: t + "# other\n", "files.exact.py is "),
    ],
)
def test_changed_inputs_are_refused_before_any_work(
    copy: Path, file: str, change: Callable[[str], str], expected: str
) -> None:
    (copy / file).write_text(change((copy / file).read_text()))
    ended = call("run", copy / "demo.yaml", "--out", copy / "runs", "--locked")
    assert ended.code == 2
    assert expected in ended.error
    assert "starts" not in ended.err


def test_what_changes_nothing_in_a_recipe_is_no_change(copy: Path) -> None:
    text = (copy / "demo.yaml").read_text()
    (copy / "demo.yaml").write_text("# a comment\nseed: 0\n" + text.replace("0.6x", "0.60x"))
    (one,) = locked_run.locked_runs(load_recipe(copy / "demo.yaml"), copy / "demo.yaml", copy / "runs")
    assert one.warnings == ()


def test_another_image_is_told_by_its_split(copy: Path) -> None:
    held = dict(np.load(copy / "images.npz"))
    held["images"][0] = 255 - held["images"][0]
    np.savez(copy / "images.npz", **held)
    ended = call("run", copy / "demo.yaml", "--out", copy / "runs", "--locked")
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if "data split" in line]
    assert len(lines) == 1 and ".sha256 is " in lines[0]


def test_another_weights_file_is_refused(copy: Path, started: Any) -> None:
    shutil.copy(started.root / "net.pth", copy / "net.pth")
    lock = json.loads((copy / "demo.lock").read_text())
    lock["inputs"]["weights"] = "0" * 64
    lock["recipe"]["options"]["model"]["weights"] = "net.pth"
    (copy / "demo.lock").write_text(json.dumps(lock))
    text = (copy / "demo.yaml").read_text()
    (copy / "demo.yaml").write_text(text.replace('"net.py:net"}', '"net.py:net", weights: net.pth}'))
    ended = call("run", copy / "demo.yaml", "--out", copy / "runs", "--locked")
    assert ended.code == 2
    assert "weights is " in ended.error and "the lock has 000000000000…" in ended.error


def test_another_hash_is_told_with_what_differs(edited: Callable[..., Ended]) -> None:
    ended = edited(
        {
            ("artifact", "model.onnx"): "1" * 64,
            ("products", "compressed/weights.safetensors"): "2" * 64,
            ("surroundings", "packages", "numpy"): "1.0",
            ("surroundings", "machine", "cpu"): "Zuse Z4",
        }
    )
    assert ended.code == 3
    assert len(_warnings(ended.err)) == 2
    for expected in (
        "the lock has 111111111111…",
        'the lock has "1.0"',
        'the lock has "Zuse Z4"',
        "the first product that is another one is compressed/weights.safetensors",
    ):
        assert expected in ended.error
    assert "test accuracy" in ended.out, "it was measured all the same"


def test_other_versions_alone_are_a_warning(edited: Callable[..., Ended]) -> None:
    ended = edited({("surroundings", "packages", "numpy"): "1.0"})
    assert ended.code == 0
    assert 'packages.numpy is "' in ended.err and "the artifact is that of" in ended.err


def test_a_hash_that_nothing_explains_is_told_so(edited: Callable[..., Ended]) -> None:
    ended = edited({("artifact", "model.onnx"): "1" * 64})
    assert ended.code == 3
    assert "nothing recorded differs, but the hash does" in ended.error
    assert "the exported network is the same" in ended.error


def test_whether_bf16_trains_is_the_locks_to_say(edited: Callable[..., Ended], origin: Path) -> None:
    measured = json.loads((origin / "demo.lock").read_text())["decisions"]["bf16"]  # by a clock: either may be true
    ended = edited({("decisions", "bf16", "quantize"): not measured["quantize"]})
    assert ended.code == 3
    assert "the first product that is another one is recovered/weights.safetensors" in ended.error
    curve = json.loads((origin / "again" / "demo" / "recovered" / "curves.json").read_text())
    trained = {epoch["phase"]: epoch["bf16"] for epoch in curve}
    assert trained == {"distil": measured["distil"], "quantize": not measured["quantize"]}


def test_threads_are_the_locks_to_say(edited: Callable[..., Ended], origin: Path) -> None:
    ended = edited({("decisions", "threads"): [2]})
    assert "fit: starts" in ended.err, "products of another number of threads are not taken for these"
    curve = json.loads((origin / "again" / "demo" / "original" / "curves.json").read_text())
    assert [epoch["threads"] for epoch in curve] == [2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({("plan", "narrow:block.conv9"): "8"}, "names the site 'narrow:block.conv9', which this model does not have"),
        ({("plan", "quantize:fc"): "int4"}, "picks 'int4' at quantize:fc, which is not offered here"),
        ({("plan",): {}}, "lacks the site"),
        ({("decisions", "transforms"): []}, "which this model does not have"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_line(
    edited: Callable[..., Ended], changes: dict[tuple[str, ...], Any], expected: str
) -> None:
    ended = edited(changes)
    assert ended.code == 2
    assert expected in ended.error


def test_a_recipe_without_a_lock_says_how_to_get_one(copy: Path) -> None:
    (copy / "demo.lock").unlink()
    ended = call("run", copy / "demo.yaml", "--out", copy / "runs", "--locked")
    assert ended.code == 2
    assert "demo.lock does not exist; a run without --locked" in ended.error


def test_every_model_of_a_front_has_its_lock(copy: Path) -> None:
    (copy / "demo.yaml").write_text("front: [0.45x]\n" + (copy / "demo.yaml").read_text())
    first = call("run", copy / "demo.yaml", "--out", copy / "runs")
    assert first.code == 0, first.err
    ended = call("run", copy / "demo.yaml", "--out", copy / "again", "--locked", "--json")
    assert ended.code == 0, ended.err
    assert f"the artifact is that of {copy / 'demo-0.45x.lock'}" in ended.err
    assert [row["limit"] for row in json.loads(ended.out)] == ["0.45x"]


def test_two_runs_are_explained_from_their_folders(origin: Path, replayed: Ended) -> None:
    call("run", origin / "demo.yaml", "--out", origin / "again", "--locked")
    ended = call("diff", origin / "demo.lock", origin / "again" / "demo")
    assert ended.code == 0
    assert ended.out.startswith("The same artifact, byte for byte.")
    assert "the plan of the second came from a lock" in ended.out
