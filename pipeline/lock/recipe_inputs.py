"""What a recipe says and what it names, by content: the model's code, its weights, the plugins and the images."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.files import digest_file
from paredown.models.loading.model import weights_path
from paredown.models.loading.source_files import source_files
from paredown.models.loading.spec import is_code
from paredown.models.loading.user_code import find_source, import_folders
from paredown.models.printable import on_one_line
from paredown.pipeline.lock.lock import LockedInputs, LockedSplit, RecipeRecord
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.run.keys import nested_texts
from paredown.stages.measuring.embedded_facts import written_limits


def recipe_record(recipe: Recipe) -> RecipeRecord:
    """What a person wrote, without what would be so anyway; comments and spelling do not count."""
    parts = recipe.model_dump(mode="json", exclude_defaults=True, include={"model", "data", "target"})
    steps: dict[str, Any] = {
        step.name: step.stage.model_dump(mode="json", exclude_defaults=True) for step in recipe.pipeline
    }
    return RecipeRecord(
        name=recipe.name,
        seed=recipe.seed,
        stages=tuple(steps),
        options={
            **parts,
            "limits": written_limits(recipe.limits),
            "pipeline": {name: options for name, options in steps.items() if options},
        },
    )


def collect_inputs(recipe: Recipe, cache: Path) -> LockedInputs:
    """Reads all that the recipe names; images are decoded if they are not in `cache`."""
    data = open_data(recipe.data, recipe.root, cache, recipe.seed)
    splits = data.splits
    return LockedInputs(
        **file_digests(recipe),
        data=data.fingerprint,
        splits={name: LockedSplit(count=len(split), sha256=split.digest()) for name, split in splits.items()},
        classes=tuple(map(on_one_line, data.classes)),
        licence=on_one_line(data.licence),
    )


def file_digests(recipe: Recipe) -> dict[str, Any]:
    """`model`, `weights` and `files` of `LockedInputs`: what the recipe names beside its images, and what that
    imports."""
    spec, root = recipe.model, recipe.root
    held = spec.weights not in (None, "hub")
    named = [recipe.target.runtime, *recipe.target.compare, *(step.name for step in recipe.pipeline)]
    named += nested_texts([step.stage.model_dump(mode="json") for step in recipe.pipeline])
    plugins = {name: root / Path(name).expanduser() for name in named if name.endswith(".py")}
    files = {**_imported_files(recipe, plugins.values()), **plugins}
    return {
        "model": digest_file(find_source(spec.source, root).file) if is_code(spec.source) else None,
        "weights": digest_file(weights_path(spec, root)) if held else None,
        "files": {name: digest_file(file) for name, file in sorted(files.items()) if file.is_file()},
    }


def _imported_files(recipe: Recipe, plugins: Iterable[Path]) -> dict[str, Path]:
    """The user's files that the model's code and the plugins import, by their path from the recipe's folder."""
    found: list[Path] = []
    if is_code(recipe.model.source):
        source = find_source(recipe.model.source, recipe.root)
        found += source_files(source.file, source.folders)[1:]
    for file in plugins:
        found += source_files(file, import_folders(file))[1:] if file.is_file() else ()
    return {os.path.relpath(file, recipe.root): file for file in found}


def data_now(recipe: Recipe) -> str:
    """The fingerprint of the images as they are now, without decoding them."""
    return fingerprint_data(recipe.data, recipe.root, recipe.seed)
