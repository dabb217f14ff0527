"""A model in int8 and in fp32, and a runtime whose times are its multiply-adds with the noise of a busy machine."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.onnx.edit import copy_of_model, save_onnx
from paredown.pipeline.gate.budgets import Gates, read_gates
from paredown.stages.analysis.prepared_model import PreparedModel

RUNTIME = '''
"""For tests: a layer's time is its multiply-adds, int8 at half of them; every call of latency drifts and has noise."""

from functools import cache

import numpy as np

from paredown.models.onnx.facts import model_facts
from paredown.stages.runtimes.onnxruntime import OnnxRuntime


@cache
def times(path):
    layers = model_facts(path).layers
    return {layer.name: (0.5 if layer.precision == "int8" else 1) * layer.macs / 1e6 for layer in layers}


class Noisy(OnnxRuntime):
    noise = 0.02

    def version(self):
        return "noisy 1"

    def machine(self):
        return {"cpu": "test", "cores": "2"}

    def latency(self, models, load, rounds, runs, seed=0):
        rng = np.random.default_rng(seed)
        drift = np.exp(rng.normal(0, 0.5))
        made = []
        for model in models:
            session = sum(times(model).values()) * drift * np.exp(rng.normal(0, self.noise))
            made.append([list(session * np.exp(rng.normal(0, self.noise, runs)))])
        return made

    def node_times(self, model, load, runs):
        return times(model)

    def peak_memory(self, model, load):
        return 40.0 + 2 * model.stat().st_size / 2**20


PLUGIN = Noisy
'''


@dataclass(frozen=True)
class Bench:
    """A folder with `int8.onnx`, `fp32.onnx`, `one.onnx` (int8, but for block.conv2) and the runtime; `gates` reads a
    budgets file of the given keys there."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"

    def write(self, **keys: Any) -> Path:
        content = {"target": {"runtime": "noisy.py"}, "seconds": 60, **keys}
        (self.folder / "gates.yaml").write_text(json.dumps(content))
        return self.folder / "gates.yaml"

    def gates(self, **keys: Any) -> Gates:
        return read_gates(self.write(**keys))


@pytest.fixture
def models(prepared: PreparedModel) -> dict[str, ModelProto]:
    names, model = quantizable_nodes(prepared.model), copy_of_model(prepared.model)
    most = [name for name in names if name != "block.conv2"]
    return {
        "fp32": model,
        "int8": insert_qdq(model, names, prepared.ranges, 8),
        "one": insert_qdq(model, most, prepared.ranges, 8),
    }


@pytest.fixture
def bench(models: dict[str, ModelProto], tmp_path: Path) -> Bench:
    for name, model in models.items():
        save_onnx(model, tmp_path / f"{name}.onnx")
    (tmp_path / "noisy.py").write_text(RUNTIME)
    return Bench(tmp_path)


@pytest.fixture
def noisier(bench: Bench) -> Callable[[float], None]:
    """Makes the runtime noisier."""

    def change(noise: float) -> None:
        (bench.folder / "noisy.py").write_text(RUNTIME.replace("noise = 0.02", f"noise = {noise}"))

    return change
