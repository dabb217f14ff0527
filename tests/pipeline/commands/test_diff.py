"""`paredown diff`: what two locks say of two runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.pipeline.cli import main

Write = Callable[..., Path]
B, C = "b" * 64, "c" * 64


def diff(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["diff", *map(str, arguments)])
    return int(caught.value.code or 0), capsys.readouterr().out


def test_equal_locks_are_the_same_artifact(write_lock: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = diff(capsys, write_lock(), write_lock("b.lock"))
    assert code == 0
    assert out.startswith("The same artifact, byte for byte.\n\ncosts and gains:")
    assert out.count("\n\n") == 1, "there is nothing else to tell"


def test_sites_are_told_by_what_became_of_them(write_lock: Write, capsys: pytest.CaptureFixture[str]) -> None:
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
    other = write_lock(
        "b.lock", {("plan", site): name for site, name in changes.items()} | {("artifact", "model.onnx"): B}
    )
    code, out = diff(capsys, write_lock(), other)
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


def test_costs_and_gains_are_of_both_runs(write_lock: Write, capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[tuple[str, ...], Any] = {
        ("checks", "latency p50", "before"): 4.0,
        ("checks", "latency p50", "after"): 1.0,
        ("checks", "size", "after"): 2.02,
        ("checks", "test accuracy", "after"): 83.0,
        ("checks", "test accuracy", "holds"): False,
        ("surroundings", "machine", "cpu"): "Zuse Z5",
        ("search", "predicted", "loss"): 0.2,
    }
    _, out = diff(capsys, write_lock(), write_lock("b.lock", changes))
    assert "From the first to the second: latency p50 -50.0 %, test accuracy -1.50 points." in out, "size is noise"
    assert "The second misses its limit on test accuracy." in out
    assert "compared as factors of the original's" in out
    assert "latency p50: 1 ms (0.500x of 2) -> 1 ms (0.250x of 4), -50.0 %" in out
    assert "test accuracy: 84.5 % (85) -> 83 % (85), -1.50 points" in out
    assert 'machine.cpu: "Zuse Z4" -> "Zuse Z5"' in out
    assert "predicted loss: 0.1 -> 0.2 nats" in out


def test_milliseconds_are_compared_where_the_originals_differ(
    write_lock: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {("products", "baseline/model.onnx"): C, ("checks", "latency p50", "before"): 4.0}
    _, out = diff(capsys, write_lock(), write_lock("b.lock", changes))
    assert "latency p50: 1 ms (0.500x of 2) -> 1 ms (0.250x of 4), +0.0 %" in out


def test_times_with_other_caches_are_not_compared(write_lock: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """A lock that says nothing of caches was measured with hot ones."""
    changes = {("surroundings", "caches"): "cold", ("checks", "latency p50", "after"): 1.5}
    _, out = diff(capsys, write_lock(), write_lock("b.lock", changes))
    assert "The first was timed with hot caches, the second with cold ones: their latencies are not compared." in out
    assert "latency p50: 1 ms (0.500x of 2) -> 1.5 ms (0.750x of 2), with other caches" in out
    assert "From the first to the second" not in out and "50.0 %" not in out
    assert 'caches: "hot" -> "cold"' in out


def test_inputs_and_decisions_that_differ_are_told(write_lock: Write, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {
        ("recipe", "options", "limits", "size"): "0.4x",
        ("inputs", "splits", "calibration", "sha256"): B,
        ("decisions", "bf16", "distil"): True,
        ("decisions", "threads"): [4],
        ("surroundings", "packages", "torch"): "2.14.0",
    }
    _, out = diff(capsys, write_lock(), write_lock("b.lock", changes), "--json")
    explained = json.loads(out)
    assert explained["recipe"] == ['limits.size: "0.5x" -> "0.4x"']
    assert explained["inputs"] == ["splits.calibration.sha256: aaaaaaaaaaaa… -> bbbbbbbbbbbb…"]
    assert explained["decisions"] == ["bf16.distil: false -> true", "threads: [2] -> [4]"]
    assert explained["surroundings"] == ['packages.torch: "2.13.0" -> "2.14.0"']


def test_a_folder_without_a_finished_run_is_one_line(
    write_lock: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["diff", str(tmp_path), str(write_lock())])
    assert caught.value.code == 2
    assert "holds no run.lock: no run in it has ended with an artifact" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["block4@nan", "@", "9:1", "block4@", "1e400"])
def test_odd_candidates_are_still_explained(write_lock: Write, capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, out = diff(
        capsys, write_lock(), write_lock("b.lock", {("plan", "sparsify:a"): text, ("plan", "narrow:a"): text})
    )
    assert code == 0 and text in out
