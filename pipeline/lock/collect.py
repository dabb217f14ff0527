"""What a run resolved to, gathered from the recipe, from the products in its folder, and from this machine."""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.splits import SPLITS
from paredown.models.errors import InputError
from paredown.models.files import digest_file
from paredown.models.loading.model import weights_path
from paredown.models.loading.spec import FILE
from paredown.models.loading.user_code import split_source
from paredown.models.printable import on_one_line
from paredown.pipeline.lock.lock import (
    RUN_LOCK,
    Decisions,
    Environment,
    Images,
    Inputs,
    Lock,
    LockedMeasure,
    RecipeRecord,
    Searched,
    lock_path,
    save_lock,
)
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.run.keys import ProductKeys, code, engines_named, texts, version_of
from paredown.pipeline.run.product_record import product_digests
from paredown.pipeline.run.run_folder import RunFolder, read_run_folder
from paredown.stages import plugins
from paredown.stages.limits import Limits
from paredown.stages.plugins.installed import distributions
from paredown.stages.products.documents import plain
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.product_files import PRODUCTS
from paredown.stages.products.training_curve import Epoch
from paredown.stages.runtimes.base import Runtime
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
        inputs=inputs(recipe, folder.parent / ".cache"),
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
    return LockedMeasure(**{name: value for name, value in plain(check).items() if name != "name"})


def recipe_record(recipe: Recipe) -> RecipeRecord:
    """What a person wrote, without what would be so anyway; comments and spelling do not count."""
    parts = recipe.model_dump(mode="json", exclude_defaults=True, include={"model", "data", "target"})
    bounds = {name: getattr(recipe.limits, name) for name in Limits.model_fields}
    limits = {name: b if isinstance(b, float) else str(b) for name, b in bounds.items() if b is not None}
    steps: dict[str, Any] = {
        step.name: step.stage.model_dump(mode="json", exclude_defaults=True) for step in recipe.pipeline
    }
    return RecipeRecord(
        name=recipe.name,
        seed=recipe.seed,
        stages=tuple(steps),
        options={**parts, "limits": limits, "pipeline": {name: options for name, options in steps.items() if options}},
    )


def inputs(recipe: Recipe, cache: Path) -> Inputs:
    """Reads all that the recipe names; images are decoded if they are not in `cache`."""
    data = open_data(recipe.data, recipe.root, cache, recipe.seed)
    splits = {name: getattr(data, name) for name in SPLITS}
    return Inputs(
        **files_of(recipe),
        data=data.fingerprint,
        splits={name: Images(count=len(split), sha256=split.digest()) for name, split in splits.items()},
        classes=tuple(map(on_one_line, data.classes)),
        licence=on_one_line(data.licence),
    )


def files_of(recipe: Recipe) -> dict[str, Any]:
    """`model`, `weights` and `files` of `Inputs`: what the recipe names beside its images."""
    spec, root = recipe.model, recipe.root
    held = spec.weights not in (None, "hub")
    named = [recipe.target.runtime, *recipe.target.compare, *(step.name for step in recipe.pipeline)]
    named += texts([step.stage.model_dump(mode="json") for step in recipe.pipeline])
    plugins = {name: root / Path(name).expanduser() for name in named if name.endswith(".py")}
    return {
        "model": digest_file(split_source(spec.source, root)[0]) if FILE.fullmatch(spec.source) else None,
        "weights": digest_file(weights_path(spec, root)) if held else None,
        "files": {name: digest_file(file) for name, file in sorted(plugins.items()) if file.is_file()},
    }


def data_now(recipe: Recipe) -> str:
    """The fingerprint of the images as they are now, without decoding them."""
    return fingerprint_data(recipe.data, recipe.root, recipe.seed)


def environment_now(
    recipe: Recipe, runtime: str | None = None, machine: Mapping[str, str] | None = None
) -> Environment:
    """Versions and machine; runtime and machine are those that are here where none are given."""
    target: Runtime = plugins.make("runtimes", recipe.target.runtime, {}, recipe.root)
    facts = target.machine() if machine is None else machine
    return Environment(
        paredown=metadata.version("paredown"),
        paredown_code=code(),
        packages=packages(recipe),
        runtime=on_one_line(target.version() if runtime is None else runtime),
        machine={name: on_one_line(str(value)) for name, value in facts.items()},
        weight_bits=target.weight_bits(),
        width_multiple=target.width_multiple(),
    )


def packages(recipe: Recipe) -> dict[str, str]:
    """Of Python, of all that paredown needs, of what the runtimes and engines of the recipe need, and of packages that
    bring plugins which it names."""
    needed = [re.split(r"[^\w.-]", one)[0] for one in metadata.requires("paredown") or () if "extra ==" not in one]
    versions: dict[str, object] = {"python": platform.python_version()}
    versions |= {name: version_of(name) for name in needed}
    keys, engines = ProductKeys(recipe), {name for step in recipe.pipeline for name in engines_named(step)}
    versions |= keys.installed("runtimes", [recipe.target.runtime, *recipe.target.compare])
    versions |= keys.installed("engines", engines)
    versions |= distributions(texts(recipe_record(recipe).model_dump(mode="json")))
    return {name: on_one_line(str(value)) for name, value in _flat(versions)}


def _flat(versions: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Of an interpreter of its own each package by itself."""
    for name, value in versions.items():
        if isinstance(value, dict):
            pairs = (line.partition("==") for line in value.get("packages", ()))
            yield from ((f"{name}/{package}", version) for package, _, version in pairs)
        else:
            yield name, value


def _decisions(recipe: Recipe, run: RunFolder) -> Decisions:
    took_part = tuple(run.profile.transforms) if run.profile else ()
    offered = run.profile.sites if run.profile else {}
    library = run.library
    asked = [step.stage.named_plugins().get("transforms", {}) for step in recipe.pipeline]
    wanted = [name for named in asked for name in load_transforms(named, recipe.root)]
    kept: dict[str, list[str]] = {}
    for tried in (*library.blocks.values(), *library.merged.values()) if library else ():
        kept.setdefault(tried.place.name, []).extend(tried.kept)
    return Decisions(
        **_trained(run.epochs),
        transforms=took_part,
        left_out=tuple(name for name in wanted if name not in took_part),
        pinned={site: names[0] for site, names in offered.items() if len(names) == 1},
        replacements={block: tuple(names) for block, names in kept.items()},
        quantization=dict(run.plan.quantization) if run.plan else {},
        warnings=tuple(on_one_line(note, 5000) for note in run.notes),
    )


def _trained(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """What training ran on: one of each, but for a run that was killed and went on elsewhere."""
    ran = [plain(epoch) for epoch in epochs] or [computes_on()]
    every = {name: tuple(dict.fromkeys(one[name] for one in ran)) for name in ("device", "threads", "processes")}
    every["device"] = tuple(map(on_one_line, every["device"]))
    return {"bf16": {epoch.phase: epoch.bf16 for epoch in epochs}, **every}


def _searched(recipe: Recipe, run: RunFolder, folder: Path) -> Searched | None:
    plan, costs = run.plan, run.profile.costs if run.profile else None
    if plan is None or plan.replayed:
        return None
    searches = (step.stage for step in recipe.pipeline if step.stage.gives == "plan")
    return Searched(
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
