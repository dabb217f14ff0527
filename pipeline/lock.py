"""The lock beside a recipe: what its last run resolved to, one field per line and sorted, so that it merges."""

import json
import os
from pathlib import Path
from typing import Any

from paredown.models.files import digest_file
from paredown.pipeline.errors import machine
from paredown.pipeline.recipe import Recipe


def write_lock(recipe: Recipe, recipe_file: Path, folder: Path, suffix: str = "") -> Path:
    """Writes `<recipe><suffix>.lock` from the artifact in `folder`; the run must have ended with an artifact.

    Holds the plan per site, the digests of recipe, data and artifact, seeds, versions, the runtime and the machine, and
    what was measured.
    """
    manifest: dict[str, Any] = json.loads((folder / "artifact" / "manifest.json").read_text())
    content = {
        "paredown": manifest["paredown"],
        "recipe": {"name": recipe.name, "sha256": digest_file(recipe_file)},
        "seed": recipe.seed,
        "model": manifest["model"],
        "data": manifest["data"],
        "plan": manifest["plan"],
        "sha256": manifest["sha256"],
        "versions": manifest["versions"],
        "runtime": manifest["artifact"]["runtime"],
        "machine": manifest["artifact"]["machine"],
        "checks": {check["name"]: check for check in manifest["checks"]},
    }
    path = recipe_file.with_name(f"{recipe_file.stem}{suffix}.lock")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with machine(path):
        fresh.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        fresh.replace(path)
    return path
