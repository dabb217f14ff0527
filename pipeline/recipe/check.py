"""Checks a recipe before any work: its parts are there, and its model can be traced."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.errors import MissingError
from paredown.models.loading.model import Head, LoadedModel, fingerprint_model, open_model
from paredown.models.progress import Progress, silent_progress
from paredown.pipeline.machine_errors import input_errors
from paredown.pipeline.recipe.library_differences import library_differences
from paredown.pipeline.recipe.recipe import Recipe
from paredown.stages import plugins
from paredown.stages.limits import Limits
from paredown.stages.measuring.proportions import ASSUMED_DISCORDANCE, resolution
from paredown.stages.measuring.target_runtime import target_runtime
from paredown.stages.products.interval import CONFIDENCE

if TYPE_CHECKING:
    from paredown.models.network.trace import Network

MOST_CLASSES = 14
"""Of those that check prints one line each."""
SHOWN = 4
"""Layers that are named where some stay as they are."""
TRAINING = ("fit", "recover")
"""Stages that train."""
LOOKED_AT = 8
"""Validation images whose logits must be finite."""


def check_recipe(recipe: Recipe, cache: Path, progress: Progress = silent_progress) -> Iterator[str]:
    """Yields one line for everything that holds; raises the ParedownError of the first thing that does not.

    Decodes the images into `cache`, where a run finds them again.
    """
    import torch

    from paredown.models.network.answers import refuse_answers_that_are_not_finite, with_one_output
    from paredown.models.network.gradients import untrained_notes
    from paredown.models.network.logits import form_of_answers
    from paredown.models.network.trace import analyse_network
    from paredown.pipeline.recipe.first_answers import answer_doubts

    yield f"stages: {' -> '.join(step.name for step in recipe.pipeline)}"
    yield f"plugins: {', '.join(_plugins(recipe)) or 'none'}"
    yield f"model's files: {fingerprint_model(recipe.model, recipe.root)[:12]}"
    yield f"data's files: {fingerprint_data(recipe.data, recipe.root, recipe.seed)[:12]}"
    with input_errors("the images cannot be read", cache):
        data = open_data(recipe.data, recipe.root, cache, recipe.seed, progress)
    sizes = f"{len(data.train)} train, {len(data.calibration)} calibration, {len(data.validation)} validation"
    yield f"images: {sizes}, {len(data.test)} test, {len(data.classes)} classes"
    yield from class_lines(data)
    yield f"splits: {_origins(data)}"
    if data.facts:
        yield from data.facts.lines(recipe.data.framing)
    yield from (f"warning: {line}" for line in data.notes)
    yield from library_differences(recipe)
    with input_errors("the model cannot be built", cache):
        loaded = _open_model(recipe, len(data.classes))
    yield from loaded.notes
    shape = (3, recipe.data.image_size, recipe.data.image_size)
    images = torch.from_numpy(next(data.batches(data.validation, LOOKED_AT))[0])
    with input_errors("the model cannot be traced", cache):
        module = with_one_output(loaded.module, shape, len(data.classes), recipe.model.output)
        network = analyse_network(module, shape)
        refuse_answers_that_are_not_finite(module, images)
        form = form_of_answers(module, images)
    yield f"model: {_layers(network)}"
    if any(step.name in TRAINING for step in recipe.pipeline):
        yield from (f"warning: {line}" for line in untrained_notes(module, shape))
    if form:
        yield f"answers: {form}"
    if not any(step.name == "fit" for step in recipe.pipeline):  # that one trains it first
        with input_errors("the model cannot answer the images", cache):
            doubts = list(answer_doubts(module, data, recipe.seed))
        yield from (f"warning: the model: {line}" for line in doubts)
    for step in recipe.pipeline:
        with input_errors(f"{step.name} cannot be used", recipe.root):
            line = step.stage.check(network, recipe.root)
        if line:
            yield f"{step.name}: {line}"
    yield f"limits: {', '.join(_limits(recipe))}"
    if line := untold_drop(recipe.limits, len(data.test)):
        yield f"warning: {line}"
    yield from _warnings(recipe)


def class_lines(data: ImageData) -> Iterator[str]:
    """The classes in the order in which the model answers, with the images of each split; long lists are cut."""
    counts = np.stack([np.bincount(split.labels, minlength=len(data.classes)) for split in data.splits.values()], 1)
    with_images = np.flatnonzero(counts.sum(1)).tolist()
    some = "" if len(with_images) == len(data.classes) else f", of which {len(with_images)} have images"
    yield f"classes: {len(data.classes)} in this order{some} ({' + '.join(data.splits)})"
    shown = with_images if len(with_images) <= MOST_CLASSES else with_images[: MOST_CLASSES - 2]
    for index in shown:
        yield f"  {index} {data.classes[index]}: {' + '.join(map(str, counts[index]))}"
    if len(shown) < len(with_images):
        last = with_images[-1]
        yield f"  ... and {len(with_images) - len(shown)} more, to {last} {data.classes[last]}"


def untold_drop(limits: Limits, images: int) -> str:
    """What so many test images cannot tell of the limit on accuracy; empty where they can."""
    if limits.accuracy_drop is None:
        return ""
    confidence = limits.confidence or CONFIDENCE
    told = resolution(limits.accuracy_drop, images, ASSUMED_DISCORDANCE, confidence)
    share = f"if original and artifact are right on different images in {100 * ASSUMED_DISCORDANCE:g} % of them"
    return told and f"limits.accuracy_drop: of the test split, {told}, with {100 * confidence:g} % confidence, {share}"


def _layers(network: "Network") -> str:
    """How many layers could be changed, and which stay as they are."""
    fixed = [str(layer) for layer in network.fixed]
    more = f", and {len(fixed) - SHOWN} more" if len(fixed) > SHOWN else ""
    said = f"{sum(layer.op != 'add' for layer in network.layers)} layers traced"
    return said + (f"; as they are, in fp32, stay {', '.join(fixed[:SHOWN])}{more}" if fixed else "")


def _origins(data: ImageData) -> str:
    """Where every split comes from: it is the user's own, or cut from what trains."""
    if not data.origins:
        return "all cut from the images"
    cut = [split for split in data.splits if split not in data.origins]
    given = ", ".join(f"{split} is {data.origins[split]}" for split in data.splits if split in data.origins)
    return given + (f"; {', '.join(cut)} cut from train" if cut else "")


def _plugins(recipe: Recipe) -> list[str]:
    """The plugins that the recipe names; raises where one is not known or not installed."""
    named: list[tuple[plugins.Kind, str]] = [
        ("runtimes", name) for name in (recipe.target.runtime, *recipe.target.compare)
    ]
    for step in recipe.pipeline:
        named += [(kind, name) for kind, plugs in step.stage.named_plugins().items() for name in plugs]
    for kind, name in named:
        if line := plugins.missing_requirement(kind, name, recipe.root):
            raise MissingError(line)
    return [name for _, name in named]


def _open_model(recipe: Recipe, classes: int) -> LoadedModel:
    """The model as the first stage will load it."""
    fitted = any(step.name == "fit" for step in recipe.pipeline)
    head: Head = "replace" if fitted else "keep"
    return open_model(recipe.model, classes, recipe.root, head=head, side=recipe.data.image_size)


def _warnings(recipe: Recipe) -> Iterator[str]:
    """A line for every part of the recipe that can be run and gains nothing."""
    from paredown.stages.transforms.loading import load_transforms

    runtime = target_runtime(recipe.target, recipe.root)
    for step in recipe.pipeline:
        for name, transform in load_transforms(step.stage.named_plugins().get("transforms", {}), recipe.root).items():
            if transform.RUNS_ANYWHERE and not transform.pays(runtime, recipe.target.container):
                does, instead = transform.no_gain()
                yield (
                    f"warning: {recipe.target.runtime} {does}; {step.name} will measure that and leave {name} out. "
                    f"{instead}"
                )


def _limits(recipe: Recipe) -> list[str]:
    limits = {name: getattr(recipe.limits, name) for name in type(recipe.limits).model_fields}
    return [f"{name} {value}" for name, value in limits.items() if value is not None]
