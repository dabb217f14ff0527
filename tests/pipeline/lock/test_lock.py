"""Reading locks: what whoever edits version control may hand in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.lock.lock import LARGEST, lock_path, read_lock

Write = Callable[..., Path]
A = "a" * 64


def refusal(file: Path) -> str:
    """What is said of a lock that cannot be read: always one line that names the file."""
    with pytest.raises(InputError) as caught:
        read_lock(file)
    text = str(caught.value)
    assert text.startswith(str(file)) and "\n" not in text and text.isprintable() and len(text) < 600
    return text


def test_a_whole_lock_is_read(write_lock: Write) -> None:
    lock = read_lock(write_lock())
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
def test_a_wrong_field_is_named(write_lock: Write, path: tuple[str, ...], value: Any, said: str) -> None:
    assert said in refusal(write_lock(changes={path: value}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"lock"', "{}", "\xff", "[" * 100_000, "<<<<<<< HEAD\n{}"]
)
def test_what_is_no_lock_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.lock"
    file.write_bytes(text.encode("latin-1"))
    refusal(file)


@pytest.mark.parametrize("value", ["9" * 5000, "1e999", "[" * 500 + "]" * 500, "NaN"])
def test_absurd_values_are_one_line(lock_content: dict[str, Any], tmp_path: Path, value: str) -> None:
    file = tmp_path / "a.lock"
    file.write_text(json.dumps(lock_content).replace('"gap": 0.0', f'"gap": {value}'))
    refusal(file)
    file.write_text(json.dumps(lock_content).replace('"seed": 0', f'"seed": {value}'))
    refusal(file)


def test_files_that_are_missing_too_large_or_folders_are_one_line(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.lock")
    (tmp_path / "folder.lock").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.lock")
    with (tmp_path / "large.lock").open("wb") as stream:
        stream.truncate(LARGEST + 1)
    assert f"allowed are {LARGEST}" in refusal(tmp_path / "large.lock")


def test_every_part_of_a_lock_may_be_missing(lock_content: dict[str, Any], tmp_path: Path) -> None:
    for name in lock_content:
        file = tmp_path / "a.lock"
        file.write_text(json.dumps({key: value for key, value in lock_content.items() if key != name}))
        assert f"{name}: Field required" in refusal(file)


def test_a_lock_of_the_first_form_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "old.lock"
    told = {"paredown": "0.1.0", "seed": 0, "plan": {}, "versions": {}, "recipe": {"name": "x", "sha256": A}}
    file.write_text(json.dumps(told))
    assert refusal(file) == f"{file}: written by an older paredown: run the recipe again"
