"""Runs a recipe's stages in order: what did not change is not made again, what was killed goes on."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from paredown.models.errors import InputError, LimitError, MachineError, MissingError, ParedownError
from paredown.models.files import write_whole
from paredown.models.loading.code_places import fault_of, user_place
from paredown.models.progress import Progress, silent_progress
from paredown.pipeline.machine_errors import REMOVED, machine_errors
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe
from paredown.pipeline.run.allocator import keep_pages
from paredown.pipeline.run.keys import ProductKeys, engines_named
from paredown.pipeline.run.product_record import RECORD
from paredown.pipeline.run.store import ProductStore
from paredown.stages import plugins
from paredown.stages.base import State

REFUSAL = "limit.txt"
"""In a kept product: why its stage refused to let the run go on."""


@dataclass(frozen=True)
class LockOverrides:
    """What a lock decides of a run: the pipeline in the place of the recipe's, and the threads of torch, if any."""

    pipeline: tuple[PipelineStep, ...]
    threads: int | None


@dataclass(frozen=True)
class RunPlace:
    """Where a run writes: the store that it shares with other runs, and the folder `shown` with links to its own
    products."""

    store: ProductStore
    shown: Path

    def link(self, step: PipelineStep) -> Path:
        return self.shown / step.stage.gives


def run_pipeline(
    recipe: Recipe,
    folder: Path,
    until: str | None = None,
    progress: Progress = silent_progress,
    overrides: LockOverrides | None = None,
) -> State:
    """Runs the stages in order, up to and with the one named `until`, and returns the state with their products, which
    `folder/<recipe's name>/` shows. Raises the stages' ParedownErrors; the next call goes on where this one ended.
    What a stage missed that lets the others go on is raised when they are done.
    """
    from paredown.stages.analysis.prepare import forget_prepared_model

    keep_pages()
    pipeline = overrides.pipeline if overrides else recipe.pipeline
    steps, keys = _steps_until(pipeline, until), ProductKeys(recipe, overrides.threads if overrides else None)
    _refuse_missing(recipe, steps)
    place = RunPlace(ProductStore(folder / ".store"), folder / recipe.name)
    state = _first_state(recipe, folder, progress)
    with ExitStack() as stack:
        stack.callback(forget_prepared_model)
        if is_rank_zero():
            stack.enter_context(place.store.lock())
            unpublish_stale(place, pipeline)
        made, missed = dict[str, str](), list[str]()
        for i, step in enumerate(steps):
            prefixed = _prefixed(progress, f"{i + 1}/{len(steps)} {step.name}")
            made[step.stage.gives] = digest = keys.key_of(step, made)
            with _named_failures(step, noted := NotedProgress(prefixed)):
                product = _product(place, step, digest, _with_declared_products(step, state, noted), pipeline[i:])
            if is_rank_zero():
                _note_seconds(place, pipeline)
            state = state.with_product(step.stage.gives, product)
            if (line := refusal_of(product)) is not None:
                missed.append(line)
                if not step.stage.goes_on:
                    break
    if missed:
        raise LimitError("; ".join(missed), keep=True)
    return state


class NotedProgress:
    """Progress that remembers its last text."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self.text = progress, ""

    def __call__(self, text: str, done: float, total: float) -> None:
        self.text = text
        self._progress(text, done, total)


@contextmanager
def _named_failures(step: PipelineStep, noted: NotedProgress) -> Iterator[None]:
    """Raises what the user's code does wrong as InputError, with its place; other failures get a note that says which
    stage failed while it did what."""
    try:
        yield
    except ParedownError:
        raise
    except Exception as error:
        if user_place(error):
            raise InputError(f"{step.name}: {fault_of(error)}") from error
        error.add_note(f"stage {step.name} failed after '{noted.text.removeprefix(f'{step.name}: ')}'")
        raise


def _product(place: RunPlace, step: PipelineStep, digest: str, state: State, rest: tuple[PipelineStep, ...]) -> Path:
    """The stage's product: the stored one where there is one, else made now."""
    stored = place.store.get(digest, repair=is_rank_zero())
    if not is_rank_zero():
        return stored or wait_for_rank_zero(place.store, step, digest, state)
    if place.store.published(place.link(step)) != digest:
        for later in rest:  # what is shown never mixes two versions of a recipe
            place.store.unpublish(place.link(later))
    state.progress("unchanged" if stored else "starts", float(stored is not None), 1)
    product = stored or _make(place, step, digest, state)
    place.store.publish(digest, place.link(step))
    return product


def _make(place: RunPlace, step: PipelineStep, digest: str, state: State) -> Path:
    """Runs a stage in its scratch folder and checks its product in, also one that a refusing stage kept."""
    out, start = place.store.work(digest), time.monotonic()
    for left_behind in (REFUSAL, RECORD):  # by an attempt that was killed while it was checked in
        (out / left_behind).unlink(missing_ok=True)
    try:
        with machine_errors(out), fails_if_removed(out):
            _run_stage(step, replace(state, out=out))
    except LimitError as error:
        if not error.keep:
            raise
        with machine_errors(out):
            (out / REFUSAL).write_text(f"{error}\n")
    return place.store.commit(digest, time.monotonic() - start)


@contextmanager
def fails_if_removed(folder: Path) -> Iterator[None]:
    """Raises MachineError where the folder was removed meanwhile, even if another one is there now: half of a product
    must not be checked in as the whole."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield
        if os.fstat(handle).st_nlink == 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise MachineError(f"{folder}: {REMOVED}")
    finally:
        os.close(handle)


def _run_stage(step: PipelineStep, state: State) -> None:
    """Runs a stage. Where its folder or a product that it reads is gone, that is the reason, whatever it says."""
    try:
        step.stage.run(state)
    except Exception as error:
        if gone := [folder for folder in (state.out, *state.products.values()) if not folder.is_dir()]:
            raise MachineError(f"{gone[0]}: {REMOVED}") from error
        raise


def refusal_of(product: Path) -> str | None:
    """The line, which may be empty, of a stage that missed a limit and kept its product, which may be a stored one."""
    return (product / REFUSAL).read_text().strip() if (product / REFUSAL).exists() else None


def wait_for_rank_zero(store: ProductStore, step: PipelineStep, digest: str, state: State) -> Path:
    """Rank 0's product, for the other ranks: they take part in a distributed stage, and wait for it."""
    if step.stage.distributed:
        step.stage.run(replace(state, out=store.work(digest)))
    while (product := store.get(digest, repair=False)) is None:
        time.sleep(0.2)
    return product


def _steps_until(pipeline: tuple[PipelineStep, ...], until: str | None) -> tuple[PipelineStep, ...]:
    names = [step.name for step in pipeline]
    if until is None:
        return pipeline
    if until not in names:
        raise InputError(f"the recipe has no stage {until!r}; its stages: {', '.join(names)}")
    return pipeline[: names.index(until) + 1]


def _refuse_missing(recipe: Recipe, steps: tuple[PipelineStep, ...]) -> None:
    """Raises MissingError where a runtime or an engine is not installed: now, and not when a stage needs it after hours
    of training."""
    compares = any("compare" in step.stage.reads for step in steps)
    wanted: list[tuple[plugins.Kind, str]] = [("runtimes", name) for name in recipe.target.compare if compares]
    wanted.append(("runtimes", recipe.target.runtime))
    wanted += [("engines", name) for step in steps for name in sorted(engines_named(step))]
    for kind, name in wanted:
        if line := plugins.missing_requirement(kind, name, recipe.root):
            raise MissingError(line)


def _first_state(recipe: Recipe, folder: Path, progress: Progress) -> State:
    return State(**recipe.state_fields(), cache=folder / ".cache", out=folder, progress=progress)


def is_rank_zero() -> bool:
    """Whether this process writes products: always, but only rank 0 under torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) <= 1 or os.environ.get("RANK", "0") == "0"


def unpublish_stale(place: RunPlace, pipeline: tuple[PipelineStep, ...]) -> None:
    """Takes away shown products of stages that the run no longer has."""
    gives = {step.stage.gives for step in pipeline}
    for link in place.shown.glob("*"):
        if link.name not in gives and place.store.published(link):
            place.store.unpublish(link)


def _with_declared_products(step: PipelineStep, state: State, progress: Progress) -> State:
    """The state with those products only that the stage declares: no others are in its key."""
    declared = {*step.stage.needs, *step.stage.uses}
    products = {name: folder for name, folder in state.products.items() if name in declared}
    return replace(state, products=products, progress=progress)


def _prefixed(progress: Progress, stage: str) -> Progress:
    """`3/8 search: <the stage's text>`; most stages start with their own name, which is not written twice."""
    own = f"{stage.partition(' ')[2]}: "
    return lambda text, done, total: progress(f"{stage}: {text.removeprefix(own)}", done, total)


def _note_seconds(place: RunPlace, pipeline: tuple[PipelineStep, ...]) -> None:
    """Writes `timings.json`: stage name -> seconds that its shown product took to make."""
    file = place.shown / "timings.json"
    shown = {step.name: place.store.published(place.link(step)) for step in pipeline}
    with machine_errors(file):
        seconds = {name: place.store.seconds(key) for name, key in shown.items() if key}
        write_whole(file, json.dumps(seconds, indent=2) + "\n")
