"""What an artifact says of itself wherever it is copied: how to feed it, what it was made from, and how good it is.

Only what is the same whenever the same recipe is run on the same platform: no times, no memory, no dates, no folders.
What was timed stands in the manifest beside the file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from paredown.models.data.dataset import Data
from paredown.models.onnx.metadata import written
from paredown.stages.base import State
from paredown.stages.limits import Bound
from paredown.stages.measuring.target import runtime_of
from paredown.stages.products.evidence import MIB, Scores

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "scipy", "numpy")
INSTALLED = ("timm/", "torchvision/", "package:")
FIXED = 2560
"""Bytes of metadata beside the names of classes and the plan, at most."""


def essentials(state: State, data: Data, choice: Mapping[str, str], before: Scores, after: Scores) -> dict[str, Any]:
    """Name to plain data, to be embedded in the artifact."""
    target = state.target
    return {
        "model": _named({"source": state.model.source, "weights": state.model.weights, "sha256": state.model.sha256}),
        "input": input_spec(state, data),
        "classes": list(data.classes),
        "recipe": dict(state.recipe),
        "plan": grouped(choice),
        "target": {**_named(target.model_dump(mode="json")), "version": runtime_of(state).version()},
        "limits": _limits(state),
        "seed": state.seed,
        "data": {"source": _last(state.data.source), "licence": data.licence, "fingerprint": data.fingerprint},
        "images": split_sizes(data),
        "versions": {"paredown": metadata.version("paredown"), **versions()},
        "accuracy": {"before": _rounded(before.accuracy), "after": _rounded(after.accuracy), "images": after.images},
        "parity": _parity(state),
    }


def input_spec(state: State, data: Data) -> dict[str, Any]:
    """How the model wants its images: pixels scaled to `range`, less `mean`, over `std`, per channel."""
    shape = [state.target.batch, *state.image_shape]
    return {"shape": shape, "channels": "RGB", "range": [0, 1], "mean": list(data.mean), "std": list(data.std)}


def grouped(choice: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """A plan in few bytes: transform to candidate to the places where it was chosen."""
    found: dict[str, dict[str, list[str]]] = {}
    for site, picked in choice.items():
        transform, _, place = site.partition(":")
        found.setdefault(transform, {}).setdefault(picked, []).append(place)
    return found


def metadata_room_mib(classes: Sequence[str], sites: Iterable[tuple[str, Sequence[str]]]) -> float:
    """MiB that an artifact's metadata takes at most; `sites` are names with their candidates."""
    places = sum(len(written([name, max(candidates, key=len)])) + 2 for name, candidates in sites)
    return (FIXED + len(written(list(classes))) + places) / MIB


def versions() -> dict[str, str]:
    """Of the packages that made the artifact."""
    return {name: metadata.version(name) for name in PACKAGES}


def split_sizes(data: Data) -> dict[str, int]:
    """Split to its number of images."""
    return {name: len(getattr(data, name)) for name in ("train", "calibration", "validation", "test")}


def _named(said: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was not said; of a path only its last part, as folders are nobody's business."""
    told = {name: value for name, value in said.items() if value is not None}
    return {name: _last(value) if isinstance(value, str) else value for name, value in told.items()}


def _last(text: str) -> str:
    return text if text.startswith(INSTALLED) else Path(text).name or text


def _limits(state: State) -> dict[str, Any]:
    """As the recipe writes them."""
    said = {name: getattr(state.limits, name) for name in type(state.limits).model_fields}
    return {name: str(one) if isinstance(one, Bound) else one for name, one in said.items() if one is not None}


def _rounded(points: Mapping[str, float]) -> dict[str, float]:
    return {split: round(value, 4) for split, value in points.items()}


def _parity(state: State) -> dict[str, Any]:
    found = json.loads((state.product("exported") / "parity.json").read_text())
    return {**found, **{name: float(f"{found[name]:.4g}") for name in ("mean_difference", "logit_spread")}}
