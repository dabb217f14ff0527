"""Checks a recipe before any work: its parts are there, and its model can be traced."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.errors import MissingError
from paredown.models.loading.model import fingerprint_model, load_model
from paredown.models.progress import Progress, silent
from paredown.models.spec import Spec
from paredown.pipeline.recipe.recipe import Recipe
from paredown.stages import plugins
from paredown.stages.measuring.target import target_runtime

if TYPE_CHECKING:
    from paredown.models.network.trace import Network

_OPTIONS: dict[str, plugins.Kind] = {
    "blocks": "blocks",
    "runtime": "runtimes",
    "solver": "solvers",
    "transform": "transforms",
    "transforms": "transforms",
}
"""Options of stages, by name, whose values are names of plugins."""


def check(recipe: Recipe, cache: Path, progress: Progress = silent) -> Iterator[str]:
    """Yields one line for everything that holds; raises the ParedownError of the first thing that does not.

    Decodes the images into `cache`, where a run finds them again.
    """
    yield f"stages: {' -> '.join(step.name for step in recipe.pipeline)}"
    yield f"plugins: {', '.join(_plugins(recipe)) or 'none'}"
    yield f"model's files: {fingerprint_model(recipe.model, recipe.root)[:12]}"
    yield f"data's files: {fingerprint_data(recipe.data, recipe.root, recipe.seed)[:12]}"
    data = open_data(recipe.data, recipe.root, cache, recipe.seed, progress)
    sizes = f"{len(data.train)} train, {len(data.calibration)} calibration, {len(data.validation)} validation"
    yield f"images: {sizes}, {len(data.test)} test, {len(data.classes)} classes"
    network = _trace(recipe, len(data.classes))
    yield f"model: {len(network.layers)} layers traced"
    for step in recipe.pipeline:
        if hasattr(step.stage, "check"):
            yield f"{step.name}: {step.stage.check(network, recipe.root)}"
    yield f"limits: {', '.join(_limits(recipe))}"
    yield from _warnings(recipe)


def _plugins(recipe: Recipe) -> list[str]:
    """The plugins that the recipe names; raises where one is not known or not installed."""
    named: list[tuple[plugins.Kind, str]] = [
        ("runtimes", name) for name in (recipe.target.runtime, *recipe.target.compare)
    ]
    for step in recipe.pipeline:
        assert isinstance(step.stage, Spec)
        for option, kind in _OPTIONS.items():
            value = getattr(step.stage, option, None)
            named += [(kind, name) for name in ([value] if isinstance(value, str) else value or ())]
    for kind, name in named:
        if line := plugins.missing(kind, name, recipe.root):
            raise MissingError(line)
    return [name for _, name in named]


def _trace(recipe: Recipe, classes: int) -> "Network":
    """The model's trace; loads the model as the first stage will."""
    from paredown.models.network.trace import analyse

    fitted = any(step.name == "fit" for step in recipe.pipeline)
    module = load_model(recipe.model, classes, recipe.root, head="replace" if fitted else "keep")
    side = recipe.data.image_size
    return analyse(module, (3, side, side))


def _warnings(recipe: Recipe) -> Iterator[str]:
    """A line for every part of the recipe that can be run and gains nothing."""
    runtime = target_runtime(recipe.target, recipe.root)
    for step in recipe.pipeline:
        asked = "sparsify" in (getattr(step.stage, "transforms", None) or ())
        if asked and not runtime.supports("sparse") and recipe.target.container == "plain":
            yield (
                f"warning: {recipe.target.runtime} turns the zeros of sparsify neither into time nor into bytes; "
                f"{step.name} will measure that and leave it out. narrow removes whole channels, which saves both; "
                "with target: {container: gzip} zeros save bytes"
            )


def _limits(recipe: Recipe) -> list[str]:
    limits = {name: getattr(recipe.limits, name) for name in type(recipe.limits).model_fields}
    return [f"{name} {value}" for name, value in limits.items() if value is not None]
