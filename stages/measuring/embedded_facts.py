"""What an artifact says of itself wherever it is copied: how to feed it, what it was made from, and how good it is.

Only what is the same whenever the same recipe is run on the same platform: no times, no memory, no dates, no folders.
What was timed stands in the manifest beside the file.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from paredown.models.data.dataset import ImageData
from paredown.models.onnx.metadata import metadata_text
from paredown.stages.base import State
from paredown.stages.limits import Bound, Limits
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.documents import plain_data
from paredown.stages.products.embedded import AccuracyRecord, EmbeddedFacts, InputSpec
from paredown.stages.products.evidence import MIB, AccuracyScores
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.parity import Parity
from paredown.stages.solvers.problem import transform_and_place

PACKAGES = ("torch", "onnx", "onnxruntime", "torch-pruning", "scipy", "numpy")
INSTALLED = ("timm/", "torchvision/", "package:")
FIXED = 2560
"""Bytes of metadata beside the names of classes and the plan, at most."""


def embedded_facts(
    state: State,
    data: ImageData,
    choice: Mapping[str, str],
    parity: Parity,
    before: AccuracyScores,
    after: AccuracyScores,
) -> EmbeddedFacts:
    """What is written into the artifact of a plan with these scores and this parity."""
    target = state.target.model_dump(mode="json")
    return EmbeddedFacts(
        model=_named({"source": state.model.source, "weights": state.model.weights, "sha256": state.model.sha256}),
        input=input_spec(state, data),
        classes=tuple(data.classes),
        recipe=state.recipe,
        plan=sites_by_transform(choice),
        target={**_place(target), "version": runtime_of(state).version()},
        limits=written_limits(state.limits),
        seed=state.seed,
        data={"source": _last(state.data.source), "licence": data.licence, "fingerprint": data.fingerprint},
        images=split_sizes(data),
        versions={"paredown": metadata.version("paredown"), **package_versions()},
        accuracy=AccuracyRecord(_rounded(before.accuracy), _rounded(after.accuracy), after.images),
        parity=_short(parity),
    )


def facts_in_manifest(manifest: Manifest, limits: Limits) -> EmbeddedFacts:
    """What an artifact with this manifest says of itself; `limits` are the manifest's."""
    model, data, target = manifest.model, manifest.data, plain_data(manifest.target)
    return EmbeddedFacts(
        model=_named({"source": model.source, "weights": model.weights, "sha256": model.sha256}),
        input=manifest.input,
        classes=data.classes,
        recipe=manifest.recipe,
        plan=sites_by_transform(manifest.plan),
        target={**_place(target), "version": manifest.artifact.runtime},
        limits=written_limits(limits),
        seed=manifest.seed,
        data={"source": _last(data.source), "licence": data.licence, "fingerprint": data.fingerprint},
        images=data.images,
        versions={"paredown": manifest.paredown, **manifest.versions},
        accuracy=AccuracyRecord(
            _rounded(manifest.baseline.accuracy), _rounded(manifest.artifact.accuracy), manifest.artifact.images
        ),
        parity=_short(manifest.parity),
    )


def _place(target: Mapping[str, Any]) -> dict[str, Any]:
    """Of a target what tells where the file runs; its caches are of times, and nothing in the file was timed."""
    return _named({name: value for name, value in target.items() if name != "caches"})


def input_spec(state: State, data: ImageData) -> InputSpec:
    """How the model wants its images."""
    spec = state.data
    return InputSpec(
        (state.target.batch, *state.image_shape),
        "RGB",
        (0, 1),
        tuple(data.mean),
        tuple(data.std),
        crop_mode=spec.crop_mode,
        crop_pct=spec.crop_pct,
        interpolation=spec.interpolation,
        exif=spec.exif,
        framing=str(spec.framing),
    )


def sites_by_transform(choice: Mapping[str, str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """A plan in few bytes: transform to candidate to the places where it was chosen."""
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for site, picked in choice.items():
        transform, place = transform_and_place(site)
        places = groups.setdefault(transform, {})
        places[picked] = (*places.get(picked, ()), place)
    return groups


def metadata_room_mib(classes: Sequence[str], sites: Iterable[tuple[str, Sequence[str]]]) -> float:
    """MiB that an artifact's metadata takes at most; `sites` are names with their candidates."""
    places = sum(len(metadata_text([name, max(candidates, key=len)])) + 2 for name, candidates in sites)
    return (FIXED + len(metadata_text(list(classes))) + places) / MIB


def package_versions() -> dict[str, str]:
    """Package to its version, of those that made the artifact."""
    return {name: metadata.version(name) for name in PACKAGES}


def split_sizes(data: ImageData) -> dict[str, int]:
    """Split to its number of images."""
    return {name: len(split) for name, split in data.splits.items()}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was not said; of a path only its last part, as folders are nobody's business."""
    given = {name: value for name, value in values.items() if value is not None}
    return {name: _last(value) if isinstance(value, str) else value for name, value in given.items()}


def _last(text: str) -> str:
    return text if text.startswith(INSTALLED) else Path(text).name or text


def written_limits(limits: Limits) -> dict[str, str | float]:
    """As the recipe writes them; without those that are not set."""
    values = {name: getattr(limits, name) for name in type(limits).model_fields}
    return {name: str(one) if isinstance(one, Bound) else one for name, one in values.items() if one is not None}


def _rounded(points: Mapping[str, float]) -> dict[str, float]:
    return {split: round(value, 4) for split, value in points.items()}


def _short(parity: Parity) -> dict[str, float]:
    """With four digits of what is not exact."""
    facts: dict[str, float] = {**plain_data(parity)}
    for name in ("agreement_ends", "difference", "rounding", "difference_limit"):  # the manifest has them
        facts.pop(name, None)
    return {**facts, **{name: float(f"{facts[name]:.4g}") for name in ("mean_difference", "logit_spread")}}
