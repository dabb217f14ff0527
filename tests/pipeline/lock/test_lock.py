"""Reading locks: what whoever edits version control may hand in, and what two locks say of two runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.cli import main
from paredown.pipeline.lock.lock import LARGEST, lock_path, read_lock

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
ROOT = Path(__file__).parents[2]


def a_lock() -> dict[str, Any]:
    """A lock as JSON, of a run that nobody made."""
    return {
        "format": 2,
        "recipe": {
            "name": "demo",
            "seed": 0,
            "stages": ["baseline", "search"],
            "options": {"limits": {"size": "0.5x"}},
        },
        "inputs": {
            "model": None,
            "weights": A,
            "files": {},
            "data": B,
            "splits": {"train": {"count": 10, "sha256": C}, "calibration": {"count": 2, "sha256": A}},
            "classes": ["cat", "dog"],
            "licence": "not stated",
        },
        "surroundings": {
            "paredown": "0.1.0",
            "paredown_code": A,
            "packages": {"python": "3.11.7", "torch": "2.13.0"},
            "runtime": "onnxruntime 1.31.0",
            "machine": {"cpu": "Zuse Z4", "flags": "avx2"},
            "weight_bits": 7,
            "width_multiple": 8,
        },
        "decisions": {
            "bf16": {"distil": False},
            "device": ["cpu"],
            "threads": [2],
            "processes": [1],
            "transforms": ["narrow", "quantize"],
            "left_out": ["sparsify"],
            "pinned": {},
            "replacements": {"layer1.0": ["basic"]},
            "quantization": {"engine": "own"},
            "warnings": [],
        },
        "plan": {
            "narrow:a": "64",
            "narrow:b": "64",
            "quantize:a": "fp32",
            "quantize:b": "int8",
            "sparsify:a": "dense",
            "sparsify:b": "block4@0.8",
            "resize:input": "128",
            "substitute:layer1.0": "keep",
        },
        "search": {
            "solver": {"milp": {}},
            "limits": {"size": 1.0},
            "predicted": {"latency": 1.0, "loss": 0.1},
            "measured": {"latency": 1.0},
            "gap": 0.0,
            "plans_measured": 3,
            "latency_table": A,
            "samples": 12,
            "baseline_ms": 2.5,
        },
        "products": {"baseline/model.onnx": A, "recovered/weights.safetensors": B},
        "artifact": {"model.onnx": A},
        "checks": {
            "latency p50": {"unit": "ms", "before": 2.0, "after": 1.0, "limit": 1.2, "holds": True},
            "size": {"unit": "MiB", "before": 8.0, "after": 2.0, "limit": 4.0, "holds": True},
            "test accuracy": {"unit": "%", "before": 85.0, "after": 84.5, "limit": 84.0, "holds": True},
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a lock in which the value at a path of keys is another one."""

    def written(name: str = "a.lock", changes: dict[tuple[str, ...], Any] | None = None) -> Path:
        told = a_lock()
        for path, value in (changes or {}).items():
            place = told
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        file = tmp_path / name
        file.write_text(json.dumps(told))
        return file

    return written


def refusal(file: Path) -> str:
    """What is said of a lock that cannot be read: always one line that names the file."""
    with pytest.raises(InputError) as caught:
        read_lock(file)
    text = str(caught.value)
    assert text.startswith(str(file)) and "\n" not in text and text.isprintable() and len(text) < 600
    return text


def test_a_whole_lock_is_read(write: Callable[..., Path]) -> None:
    lock = read_lock(write())
    assert lock.recipe.name == "demo"
    assert lock.inputs.splits["calibration"].count == 2
    assert lock_path(Path("x/demo.yaml"), "-0.5x") == Path("x/demo-0.5x.lock")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("plan",), ["narrow:a"], "plan: "),
        (("plan", "narrow:a"), 64, "plan.narrow:a: "),
        (("plan", "narrow:\x1b[2J"), "64", "plan.narrow:"),
        (("plan", "narrow:a"), "6\u202e4", "plan.narrow:a: "),
        (("recipe", "seed"), -1, "recipe.seed: "),
        (("inputs", "weights"), "abc", "inputs.weights: "),
        (("inputs", "splits", "train", "count"), "many", "inputs.splits.train.count: "),
        (("checks", "size", "after"), float("nan"), "checks.size.after: "),
        (("checks", "size", "after"), float("inf"), "checks.size.after: "),
        (("decisions", "threads"), [10**9], "decisions.threads.0: "),
        (("decisions", "bf16", "distil"), "yes", "decisions.bf16.distil: "),
        (("surroundings", "runtime"), "x" * 10_000, "surroundings.runtime: "),
        (("format",), 3, "format: "),
        (("colour",), "blue", "colour: "),
    ],
)
def test_a_wrong_field_is_named(write: Callable[..., Path], path: tuple[str, ...], value: Any, said: str) -> None:
    assert said in refusal(write(changes={path: value}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"lock"', "{}", "\xff", "[" * 100_000, "<<<<<<< HEAD\n{}"]
)
def test_what_is_no_lock_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.lock"
    file.write_bytes(text.encode("latin-1"))
    refusal(file)


@pytest.mark.parametrize("value", ["9" * 5000, "1e999", "[" * 500 + "]" * 500, "NaN"])
def test_absurd_values_are_one_line(tmp_path: Path, value: str) -> None:
    file = tmp_path / "a.lock"
    file.write_text(json.dumps(a_lock()).replace('"gap": 0.0', f'"gap": {value}'))
    refusal(file)
    file.write_text(json.dumps(a_lock()).replace('"seed": 0', f'"seed": {value}'))
    refusal(file)


def test_files_that_are_missing_too_large_or_folders_are_one_line(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.lock")
    (tmp_path / "folder.lock").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.lock")
    with (tmp_path / "large.lock").open("wb") as stream:
        stream.truncate(LARGEST + 1)
    assert f"allowed are {LARGEST}" in refusal(tmp_path / "large.lock")


def test_every_part_of_a_lock_may_be_missing(tmp_path: Path) -> None:
    for name in a_lock():
        file = tmp_path / "a.lock"
        file.write_text(json.dumps({key: value for key, value in a_lock().items() if key != name}))
        assert f"{name}: Field required" in refusal(file)


def test_a_lock_of_the_first_form_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "old.lock"
    told = {"paredown": "0.1.0", "seed": 0, "plan": {}, "versions": {}, "recipe": {"name": "x", "sha256": A}}
    file.write_text(json.dumps(told))
    assert refusal(file) == f"{file}: written by an older paredown: run the recipe again"


def diff(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["diff", *map(str, arguments)])
    return int(caught.value.code or 0), capsys.readouterr().out


def test_equal_locks_are_the_same_artifact(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out = diff(capsys, write(), write("b.lock"))
    assert code == 0
    assert out.startswith("The same artifact, byte for byte.\n\ncosts and gains:")
    assert out.count("\n\n") == 1, "there is nothing else to tell"


def test_sites_are_told_by_what_became_of_them(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    changes = {
        "narrow:a": "48",
        "narrow:b": "80",
        "quantize:a": "int8",
        "quantize:b": "fp32",
        "sparsify:a": "2:4",
        "sparsify:b": "block4@0.5",
        "resize:input": "96",
        "substitute:layer1.0": "inverted_residual_e4_k3",
        "narrow:c": "16",
    }
    other = write("b.lock", {("plan", site): name for site, name in changes.items()} | {("artifact", "model.onnx"): B})
    code, out = diff(capsys, write(), other)
    assert code == 0
    assert out.startswith("Another artifact; of 9 sites 9 changed: 1 blocks replaced, 1 narrower, 1 wider, ")
    for line in (
        "narrower (1):\n  a 64 -> 48",
        "wider (1):\n  b 64 -> 80",
        "fp32 to int8 (1):\n  a fp32 -> int8",
        "int8 to fp32 (1):\n  b int8 -> fp32",
        "sparser (1):\n  a dense -> 2:4",
        "denser (1):\n  b block4@0.8 -> block4@0.5",
        "smaller input (1):\n  input 128 -> 96",
        "blocks replaced (1):\n  layer1.0 keep -> inverted_residual_e4_k3",
        "only in the second (1):\n  c 16",
    ):
        assert line in out


def test_costs_and_gains_are_of_both_runs(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[tuple[str, ...], Any] = {
        ("checks", "latency p50", "before"): 4.0,
        ("checks", "latency p50", "after"): 1.0,
        ("checks", "size", "after"): 2.02,
        ("checks", "test accuracy", "after"): 83.0,
        ("checks", "test accuracy", "holds"): False,
        ("surroundings", "machine", "cpu"): "Zuse Z5",
        ("search", "predicted", "loss"): 0.2,
    }
    _, out = diff(capsys, write(), write("b.lock", changes))
    assert "From the first to the second: latency p50 -50.0 %, test accuracy -1.50 points." in out, "size is noise"
    assert "The second misses its limit on test accuracy." in out
    assert "compared as factors of the original's" in out
    assert "latency p50: 1 ms (0.500x of 2) -> 1 ms (0.250x of 4), -50.0 %" in out
    assert "test accuracy: 84.5 % (85) -> 83 % (85), -1.50 points" in out
    assert 'machine.cpu: "Zuse Z4" -> "Zuse Z5"' in out
    assert "predicted loss: 0.1 -> 0.2 nats" in out


def test_milliseconds_are_compared_where_the_originals_differ(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {("products", "baseline/model.onnx"): C, ("checks", "latency p50", "before"): 4.0}
    _, out = diff(capsys, write(), write("b.lock", changes))
    assert "latency p50: 1 ms (0.500x of 2) -> 1 ms (0.250x of 4), +0.0 %" in out


def test_inputs_and_decisions_that_differ_are_told(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        ("recipe", "options", "limits", "size"): "0.4x",
        ("inputs", "splits", "calibration", "sha256"): B,
        ("decisions", "bf16", "distil"): True,
        ("decisions", "threads"): [4],
        ("surroundings", "packages", "torch"): "2.14.0",
    }
    _, out = diff(capsys, write(), write("b.lock", changes), "--json")
    told = json.loads(out)
    assert told["recipe"] == ['limits.size: "0.5x" -> "0.4x"']
    assert told["inputs"] == ["splits.calibration.sha256: aaaaaaaaaaaa… -> bbbbbbbbbbbb…"]
    assert told["decisions"] == ["bf16.distil: false -> true", "threads: [2] -> [4]"]
    assert told["surroundings"] == ['packages.torch: "2.13.0" -> "2.14.0"']


def test_a_folder_without_a_finished_run_is_one_line(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["diff", str(tmp_path), str(write())])
    assert caught.value.code == 2
    assert "holds no run.lock: no run in it has ended with an artifact" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["block4@nan", "@", "9:1", "block4@", "1e400"])
def test_odd_candidates_are_still_explained(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    code, out = diff(capsys, write(), write("b.lock", {("plan", "sparsify:a"): text, ("plan", "narrow:a"): text}))
    assert code == 0 and text in out
