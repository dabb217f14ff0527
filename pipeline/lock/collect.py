"""What a run resolved to, gathered from the recipe, from the products in its folder, and from this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.models.printable import on_one_line
from paredown.pipeline.lock.environment import environment_now
from paredown.pipeline.lock.lock import (
    RUN_LOCK,
    Lock,
    LockedDecisions,
    LockedMeasure,
    LockedSearch,
    lock_path,
    save_lock,
)
from paredown.pipeline.lock.recipe_inputs import collect_inputs, recipe_record
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.run.product_record import product_digests
from paredown.pipeline.run.run_folder import RunFolder, read_run_folder
from paredown.stages.products.documents import plain_data
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.product_files import PRODUCTS
from paredown.stages.products.training_curve import TrainingEpoch
from paredown.stages.training.device import computes_on
from paredown.stages.transforms.loading import load_transforms


def collect_lock(recipe: Recipe, folder: Path) -> Lock:
    """The lock of the run in `folder`. Raises InputError where it has not ended with an artifact."""
    run = read_run_folder(folder)
    manifest = run.manifest
    if manifest is None:
        raise InputError(f"{folder}: no lock can be made of it, as it holds no artifact with its manifest")
    return Lock(
        format=2,
        recipe=recipe_record(recipe),
        inputs=collect_inputs(recipe, folder.parent / ".cache"),
        surroundings=environment_now(recipe, manifest.artifact.runtime, manifest.artifact.machine),
        decisions=_decisions(recipe, run),
        plan=run.plan.choice if run.plan else {},
        search=_searched(recipe, run, folder),
        products={
            f"{name}/{file}": sha
            for name, product in PRODUCTS.items()
            for file, sha in product_digests(folder / name).items()
            if file in product.timeless
        },
        artifact={name: manifest.sha256[name] for name in manifest.shipped()},
        checks={check.name: _locked(check) for check in manifest.checks},
    )


def _locked(check: MeasureCheck) -> LockedMeasure:
    """Without intervals: a lock is compared line by line, and they differ from run to run."""
    measure: dict[str, Any] = plain_data(check)
    return LockedMeasure(**{name: measure[name] for name in LockedMeasure.model_fields})


def _decisions(recipe: Recipe, run: RunFolder) -> LockedDecisions:
    took_part = tuple(run.profile.transforms) if run.profile else ()
    offered = run.profile.sites if run.profile else {}
    library = run.library
    asked = [step.stage.named_plugins().get("transforms", {}) for step in recipe.pipeline]
    wanted = [name for named in asked for name in load_transforms(named, recipe.root)]
    kept: dict[str, list[str]] = {}
    for tried in (*library.blocks.values(), *library.merged.values()) if library else ():
        kept.setdefault(tried.place.name, []).extend(tried.kept)
    return LockedDecisions(
        **_trained(run.epochs),
        transforms=took_part,
        left_out=tuple(name for name in wanted if name not in took_part),
        pinned={site: names[0] for site, names in offered.items() if len(names) == 1},
        replacements={block: tuple(names) for block, names in kept.items()},
        quantization=dict(run.plan.quantization) if run.plan else {},
        warnings=tuple(on_one_line(note, 5000) for note in run.notes),
    )


def _trained(epochs: Sequence[TrainingEpoch]) -> dict[str, Any]:
    """What training ran on: one of each, but for a run that was killed and went on elsewhere."""
    ran = [plain_data(epoch) for epoch in epochs] or [computes_on()]
    every = {name: tuple(dict.fromkeys(one[name] for one in ran)) for name in ("device", "threads", "processes")}
    every["device"] = tuple(map(on_one_line, every["device"]))
    return {"bf16": {epoch.phase: epoch.bf16 for epoch in epochs}, **every}


def _searched(recipe: Recipe, run: RunFolder, folder: Path) -> LockedSearch | None:
    plan, costs = run.plan, run.profile.costs if run.profile else None
    if plan is None or plan.replayed:
        return None
    searches = (step.stage for step in recipe.pipeline if step.stage.gives == "plan")
    return LockedSearch(
        solver=next((dict(stage.named_plugins().get("solvers", {})) for stage in searches), {}),
        limits=plan.limits,
        predicted=plan.predicted.named() if plan.predicted else {},
        measured=plan.measured.named() if plan.measured else {},
        gap=plan.gap,
        plans_measured=len(plan.measured_plans),
        latency_table=product_digests(folder / "profile").get("profile.json"),
        samples=len(costs.samples) if costs else 0,
        baseline_ms=costs.baseline_ms if costs else None,
    )


def write_lock(recipe: Recipe, recipe_file: Path, folder: Path, suffix: str = "") -> Path:
    """Writes `<recipe><suffix>.lock`, and the same into `folder`, whose run must have ended with an artifact."""

    path, lock = lock_path(recipe_file, suffix), collect_lock(recipe, folder)
    for place in (folder / RUN_LOCK, path):
        save_lock(lock, place)
    return path
