"""The versions and the machine that a run is made with."""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata

from paredown.models.printable import on_one_line
from paredown.pipeline.lock.lock import Environment
from paredown.pipeline.lock.recipe_inputs import recipe_record
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.run.keys import ProductKeys, code_digest, engines_named, nested_texts, version_of
from paredown.stages import plugins
from paredown.stages.plugins.installed import plugin_distributions
from paredown.stages.runtimes.base import Runtime


def environment_now(
    recipe: Recipe, runtime: str | None = None, machine: Mapping[str, str] | None = None
) -> Environment:
    """Versions and machine; runtime and machine are those that are here where none are given."""
    target: Runtime = plugins.make_plugin("runtimes", recipe.target.runtime, {}, recipe.root)
    facts = target.machine() if machine is None else machine
    return Environment(
        paredown=metadata.version("paredown"),
        paredown_code=code_digest(),
        packages=package_versions(recipe),
        runtime=on_one_line(target.version() if runtime is None else runtime),
        machine={name: on_one_line(str(value)) for name, value in facts.items()},
        weight_bits=target.weight_bits(),
        width_multiple=target.width_multiple(),
        caches=recipe.target.caches,
    )


def package_versions(recipe: Recipe) -> dict[str, str]:
    """Of Python, of all that paredown needs, of what the runtimes and engines of the recipe need, and of packages that
    bring plugins which it names."""
    needed = [re.split(r"[^\w.-]", one)[0] for one in metadata.requires("paredown") or () if "extra ==" not in one]
    versions: dict[str, object] = {"python": platform.python_version()}
    versions |= {name: version_of(name) for name in needed}
    keys, engines = ProductKeys(recipe), {name for step in recipe.pipeline for name in engines_named(step)}
    versions |= keys.installed("runtimes", [recipe.target.runtime, *recipe.target.compare])
    versions |= keys.installed("engines", engines)
    versions |= plugin_distributions(nested_texts(recipe_record(recipe).model_dump(mode="json")))
    return {name: on_one_line(str(value)) for name, value in _flat(versions)}


def _flat(versions: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Of an interpreter of its own each package by itself."""
    for name, value in versions.items():
        if isinstance(value, dict):
            pairs = (line.partition("==") for line in value.get("packages", ()))
            yield from ((f"{name}/{package}", version) for package, _, version in pairs)
        else:
            yield name, value
