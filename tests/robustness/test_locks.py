"""Locks of recipes and of gates, from version control: read, or refused in one line; compared without a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from paredown.models.errors import InputError
from paredown.pipeline.commands.diff import diff_lines, explain_difference
from paredown.pipeline.gate.baseline_pin import read_pin
from paredown.pipeline.lock.lock import read_lock

LOCK = Path(__file__).parents[2] / "recipes" / "quickstart.lock"
ODD = (None, True, -1, 2**70, 1e308, "", "\x1b[2J", "../../etc", "x" * 600, [], {}, [[]], {"": {}}, ["a"] * 50)


@st.composite
def cut(draw: st.DrawFn, text: str) -> str:
    """The text with a piece of it left out, doubled, or made into something else."""
    start = draw(st.integers(0, len(text) - 1))
    end = min(len(text), start + draw(st.integers(1, 40)))
    return (
        text[:start] + draw(st.sampled_from(["", text[start:end] * 2, "\x00", "NaN", "}", '"', "1e999"])) + text[end:]
    )


@st.composite
def replaced(draw: st.DrawFn, text: str) -> str:
    """The document with up to three values made into others, or keys put in and taken out."""
    data = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        inside: Any = data
        while inside and isinstance(inside, dict | list):
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            key = draw(st.sampled_from(keys))
            if not isinstance(inside[key], dict | list) or not inside[key] or draw(st.integers(0, 3)) == 0:
                break
            inside = inside[key]
        match draw(st.sampled_from(["value", "value", "drop", "add"])):
            case "value":
                inside[key] = draw(st.sampled_from(ODD))
            case "drop":
                del inside[key]
            case "add" if isinstance(inside, dict):
                inside[draw(st.sampled_from(["x", "\x1b", "../y", "z" * 600]))] = draw(st.sampled_from(ODD))
    return json.dumps(data)


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[[str], object]:
    """Reads a lock and compares it with the one that it was made from."""

    def of(text: str) -> None:
        file = tmp_path / "demo.lock"
        file.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read_lock(file)
        except InputError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error)
            raise
        for pair in ((LOCK, file), (file, LOCK), (file, file)):
            assert all(line.replace("\n", "").isprintable() for line in diff_lines(explain_difference(*pair)))

    return of


def test_locks_of_recipes(fuzz: Any, attempt: Callable[[str], object]) -> None:
    text = LOCK.read_text()
    attempt(text)
    fuzz(cut(text), 150, attempt)
    fuzz(replaced(text), 250, attempt)
    fuzz(st.text(max_size=60), 50, attempt)


def test_locks_of_gates(fuzz: Any, tmp_path: Path) -> None:
    whole = json.dumps({"sha256": "0" * 64, "bytes": 3, "layers": {"a": "Conv"}})

    def attempt(text: str) -> None:
        file = tmp_path / "gates.lock"
        file.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read_pin(file, tmp_path / "gates.yaml")
        except InputError as error:
            assert "\n" not in str(error)
            raise

    attempt(whole)
    fuzz(cut(whole), 100, attempt)
    fuzz(replaced(whole), 100, attempt)
    fuzz(st.text(max_size=60), 50, attempt)
