"""A rehearsal: all stages do the cheap part of their work, so that what cannot come through fails before long work."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import open_data
from paredown.models.errors import InputError, LimitError
from paredown.models.progress import Progress, silent_progress
from paredown.pipeline.machine_errors import input_errors
from paredown.pipeline.recipe.check import check_recipe
from paredown.pipeline.recipe.recipe import CardDetails, PipelineStep, Recipe
from paredown.pipeline.run.keys import ProductKeys
from paredown.stages.base import State
from paredown.stages.limits import Limits
from paredown.stages.products.product_files import read_notes

IMAGES, PIXELS = 8, 224 * 224
"""Images of every split that a rehearsal takes, and the size up to which it takes that many: larger ones need more
memory in a training step."""


@dataclass(frozen=True)
class Rehearsal:
    """The stages of a recipe that went through their rehearsal, and those that have none; `notes` are what they found
    out, such as what each transform can change."""

    rehearsed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """What `paredown check` says of it."""
        yield from self.notes
        if self.rehearsed:
            yield f"rehearsed: {', '.join(self.rehearsed)}"
        if self.left_out:
            yield f"not rehearsed: {', '.join(self.left_out)}"


def check_and_rehearse(recipe: Recipe, cache: Path, progress: Progress = silent_progress) -> Iterator[str]:
    """Lines of `check_recipe`, then those of the rehearsal that were not among them. Raises what both raise."""
    told = set[str]()
    for line in check_recipe(recipe, cache, progress):
        told.add(line.removeprefix("warning: "))
        yield line
    yield from (line for line in rehearse(recipe, cache, progress).lines() if line not in told)


def rehearse(recipe: Recipe, cache: Path, progress: Progress = silent_progress, mark: Path | None = None) -> Rehearsal:
    """Lets every stage rehearse, in order, on a few of the recipe's images; writes nothing but into `cache`: there the
    `mark` that this recipe came through, for who knows it already.

    Raises InputError, with the stage's name, for whatever would make a stage of a run fail.
    """
    from paredown.stages.analysis.prepare import forget_prepared_model

    done, left_out, products = list[str](), list[str](), dict[str, Path]()
    cache.mkdir(parents=True, exist_ok=True)
    images = _few_images(recipe, cache)
    with TemporaryDirectory(dir=cache, prefix="rehearsal-") as folder, ExitStack() as stack:
        stack.callback(forget_prepared_model)
        for index, step in enumerate(recipe.pipeline):
            progress(f"rehearsal: {step.name}", index, len(recipe.pipeline))
            out = Path(folder) / step.stage.gives
            out.mkdir()
            if _goes_through(step, _state(recipe, cache, out, products, images)):
                products[step.stage.gives] = out
                done.append(step.name)
            else:
                left_out.append(step.name)
        notes = read_notes(Path(folder))
        progress("rehearsal: done", 1, 1)
    mark = mark or _mark(recipe, cache)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    return Rehearsal(tuple(done), tuple(left_out), notes)


def rehearse_once(recipe: Recipe, cache: Path, progress: Progress = silent_progress) -> None:
    """`rehearse`, unless one of the very same model, data, target and stages came through before; limits do not matter
    to it. Under torchrun there is none: `paredown check` is for one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 and not (mark := _mark(recipe, cache)).exists():
        rehearse(recipe, cache, progress, mark)


def _goes_through(step: PipelineStep, state: State) -> bool:
    """Whether a stage has a rehearsal, and all that it needs for it. Raises InputError where it fails."""
    stage = step.stage
    if any(need not in state.products for need in (*stage.needs, *stage.also_needs(state.root))):
        return False
    try:
        with input_errors(f"{step.name} would fail", state.out):
            return stage.rehearse(state)
    except (InputError, LimitError) as error:
        said = str(error)
        own = (f"{step.name}:", f"{step.name}.", f"{step.name} would fail:")
        named = said if said.startswith(own) else f"{step.name} would fail: {said}"
        raise InputError(named) from error


def images_taken(image_size: int) -> int:
    """How many images of a split a rehearsal takes, at this height and width in pixels."""
    return max(2, min(IMAGES, IMAGES * PIXELS // image_size**2))


def _few_images(recipe: Recipe, cache: Path) -> Callable[[], ImageData]:
    """Opens the images that stand for the data once: to know the data again takes as long as reading all of it."""

    @functools.cache
    def opened() -> ImageData:
        data = open_data(recipe.data, recipe.root, cache, recipe.seed)
        return data.take(images_taken(recipe.data.image_size), recipe.seed)

    return opened


def _state(recipe: Recipe, cache: Path, out: Path, products: dict[str, Path], images: Callable[[], ImageData]) -> State:
    fields = {**recipe.state_fields(), "limits": Limits(), "few": images_taken(recipe.data.image_size)}
    return State(**fields, few_images=images, cache=cache, out=out, products=dict(products))


def _mark(recipe: Recipe, cache: Path) -> Path:
    """The file that says that a rehearsal came through."""
    alike = {"limits": Limits(), "front": (), "name": "rehearsal", "card": CardDetails()}
    keys, made = ProductKeys(recipe.model_copy(update=alike)), dict[str, str]()
    for step in recipe.pipeline:
        made[step.stage.gives] = keys.key_of(step, made)
    return cache / "rehearsed" / made[recipe.pipeline[-1].stage.gives]
