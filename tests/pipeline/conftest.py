"""Recipes made of small stages in a temporary folder, and a lock: no model, no images, no torch."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

Write = Callable[..., Path]
A, B, C = ("a" * 64, "b" * 64, "c" * 64)

_STAGE = '''
"""A stage for tests."""

from typing import ClassVar

from paredown.models.errors import LimitError
from paredown.stages.base import Stage


class TestStage(Stage):
    needs: ClassVar[tuple[str, ...]] = {needs}
    uses: ClassVar[tuple[str, ...]] = {uses}
    gives: ClassVar[str] = "{gives}"
    reads: ClassVar[tuple[str, ...]] = {reads}
    {extra}

    steps: int = 1

    def run(self, state):
        with (state.root / "ran.txt").open("a") as file:
            file.write("{gives}\\n")
{body}


PLUGIN = TestStage
'''

_RUNTIME = """
from paredown.stages.runtimes.onnxruntime import OnnxRuntime


class TestRuntime(OnnxRuntime):
    pass


PLUGIN = TestRuntime
"""

_HEAD = """
model: {source: net.py:make}
data: {source: images, image_size: 32}
target: {runtime: runtime.py}
"""


@pytest.fixture
def write_stage(tmp_path: Path) -> Write:
    """Writes `<gives>.py`, a stage whose `run` is `body` (after it noted its name in `ran.txt`)."""

    def write(
        gives: str,
        body: str = '(state.out / "value").write_text(str(self.steps))',
        needs: tuple[str, ...] = (),
        uses: tuple[str, ...] = (),
        reads: tuple[str, ...] = (),
        extra: str = "",
    ) -> Path:
        lines = indent(dedent(body), " " * 8)
        text = _STAGE.format(gives=gives, body=lines, needs=needs, uses=uses, reads=reads, extra=extra)
        file = tmp_path / f"{gives}.py"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def write_recipe(tmp_path: Path) -> Write:
    """Writes a recipe: `pipeline` as YAML lines, and the rest."""

    def write(pipeline: str, limits: str = "{size: 0.5x}", rest: str = "", name: str = "demo") -> Path:
        (tmp_path / "runtime.py").write_text(_RUNTIME)
        file = tmp_path / f"{name}.yaml"
        listed = indent(dedent(pipeline).strip(), "  ")
        file.write_text(f"{_HEAD.strip()}\nlimits: {limits}\n{rest}\npipeline:\n{listed}\n")
        return file

    return write


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[str]]:
    """The stages that really ran since the last call."""

    def read() -> list[str]:
        file = tmp_path / "ran.txt"
        names = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return names

    return read


@pytest.fixture
def lock_content() -> dict[str, Any]:
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
def write_lock(lock_content: dict[str, Any], tmp_path: Path) -> Write:
    """Writes a lock in which the value at a path of keys is another one."""

    def written(name: str = "a.lock", changes: dict[tuple[str, ...], Any] | None = None) -> Path:
        content = copy.deepcopy(lock_content)
        for path, value in (changes or {}).items():
            place = content
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        file = tmp_path / name
        file.write_text(json.dumps(content))
        return file

    return written
