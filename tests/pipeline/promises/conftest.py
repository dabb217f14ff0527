"""A finished artifact with its manifest, alone in a folder, and what a person may do to them."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paredown.models.progress import silent_progress
from paredown.pipeline.promises.promise import Promise, Verification
from paredown.pipeline.promises.verification import VerifyRequest, verify_artifact
from paredown.stages.base import State


@dataclass(frozen=True)
class Release:
    """`folder` holds `model.onnx` and `manifest.json`; the original lies elsewhere, images and runtime in `root`."""

    folder: Path
    original: Path
    root: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def runtime(self) -> str:
        return str(self.root / "exact.py")

    def manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return content

    def change(self, *path: str, value: object) -> None:
        """Another value at a path of keys of the manifest."""
        whole = place = self.manifest()
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (self.folder / "manifest.json").write_text(json.dumps(whole))

    def with_original(self) -> None:
        """Lays the original beside the artifact, where a manifest says that it is."""
        (self.folder / "baseline").mkdir()
        shutil.copy(self.original, self.folder / "baseline" / "model.onnx")

    def spoil(self, answer: int) -> None:
        """Makes the model answer this class always, and the manifest name that file."""
        model = onnx.load(self.model)
        heads = [one for one in model.graph.initializer if one.name.startswith("fc.bias")]
        largest = max(heads, key=lambda one: one.dims[0])
        biases = 1000 * (np.arange(largest.dims[0]) == answer).astype(numpy_helper.to_array(largest).dtype)
        largest.CopyFrom(numpy_helper.from_array(biases, largest.name))
        onnx.save(model, self.model)
        self.change("sha256", "model.onnx", value=hashlib.sha256(self.model.read_bytes()).hexdigest())

    def verify(self, **options: Any) -> Verification:
        given = {"runtime": self.runtime, "seconds": 60.0, **options}
        return verify_artifact(VerifyRequest(self.folder, **given), silent_progress)

    def found(self, **options: Any) -> dict[str, Promise]:
        return {one.name: one for one in self.verify(**options).promises}


@pytest.fixture
def release(finished: State, tmp_path: Path) -> Release:
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("model.onnx", "manifest.json"):
        shutil.copy(finished.product("artifact") / name, folder / name)
    return Release(folder, finished.product("baseline") / "model.onnx", finished.root)
