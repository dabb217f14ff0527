"""The files of products: their names, and the lines in them that people should read."""

from collections.abc import Sequence
from pathlib import Path

from paredown.models.files import read_text
from paredown.stages.base import State

LONGEST = 64 * 2**20
"""Bytes of one document."""


DOCUMENTS = {
    "original": "curves.json",
    "baseline": "evidence.json",
    "library": "library.json",
    "profile": "profile.json",
    "sensitivity": "sensitivity.json",
    "plan": "plan.json",
    "compressed": "",
    "recovered": "curves.json",
    "exported": "parity.json",
    "artifact": "manifest.json",
}
"""Product to the JSON file that the report reads, in the order in which stages make them."""


STAGES = {
    "original": "fit",
    "plan": "search",
    "compressed": "compress",
    "recovered": "recover",
    "exported": "export",
    "artifact": "verify",
}
"""Product to the stage that makes it, where the two have different names."""


DECIDED = {
    "original": ("weights.safetensors",),
    "baseline": ("portable.onnx", "model.onnx"),
    "library": ("weights.safetensors",),
    "profile": ("subject.json", "moments.safetensors", "pruned.safetensors"),
    "compressed": ("weights.safetensors",),
    "recovered": ("ranges.json", "weights.safetensors"),
    "exported": ("portable.onnx", "model.onnx", "model.onnx.gz"),
}
"""Product to those of its files that hold no measured time, in the order in which stages make them."""


NOTES = "notes.txt"
"""Lines in a product's folder that a person should read: `run` prints them, also where the product was there."""


def read_notes(folder: Path) -> tuple[str, ...]:
    """What the stages of a run wrote for people."""
    files = (folder / name / NOTES for name in DOCUMENTS)
    return tuple(line for file in files if _there(file) for line in read_text(file, LONGEST).splitlines())


def _there(file: Path) -> bool:
    """Products hold no symbolic links: one would show a file from elsewhere."""
    return file.is_file() and not file.is_symlink()


def write_notes(state: State, lines: Sequence[str]) -> None:
    """Nothing is written where there is nothing to tell."""
    if lines:
        (state.out / NOTES).write_text("".join(f"{line}\n" for line in lines))
