"""`run --locked`: makes the artifact of a lock again, with its plan and without searching, and says what differs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paredown.models.errors import InputError, LimitError
from paredown.pipeline.lock import drift
from paredown.pipeline.lock.collect import collect_lock
from paredown.pipeline.lock.environment import environment_now
from paredown.pipeline.lock.lock import RUN_LOCK, Lock, LockedDecisions, lock_path, read_lock, save_lock
from paredown.pipeline.lock.recipe_inputs import collect_inputs, data_now, file_digests, recipe_record
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe, expand_front
from paredown.pipeline.run.runner import LockOverrides
from paredown.stages.profile import ProfileStage
from paredown.stages.replay import Replay, UntimedProfile
from paredown.stages.training.device import computes_on
from paredown.stages.training.schedule import Schedule


@dataclass(frozen=True)
class LockedRun:
    """A recipe whose run is decided by a lock; `warnings` say what is not as it was but may not matter."""

    recipe: Recipe
    file: Path
    lock: Lock
    warnings: tuple[str, ...]

    def decided(self) -> LockOverrides:
        """The recipe's pipeline with the lock's decisions in it, and as many threads as the lock's run had."""
        threads = self.lock.decisions.threads
        return LockOverrides(tuple(_steps(self.recipe, self.lock)), threads[0] if len(threads) == 1 else None)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """As many threads of torch as in the run that made the lock: other machines have other numbers of cores."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.decided().threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def outcome(self, folder: Path) -> str:
        """Says that the artifact in `folder` is the lock's; raises LimitError with what differs where it is not.

        Writes what this run resolved to into the folder; the lock itself stays as it is.
        """
        now = collect_lock(self.recipe, folder)
        save_lock(now, folder / RUN_LOCK)
        if now.artifact == self.lock.artifact:
            return f"the artifact is that of {self.file}: sha256 {', '.join(now.artifact.values())}"
        raise LimitError(f"{self.file}: {'; '.join(_another(self.lock, now))}")


def locked_runs(loaded: Recipe, recipe_file: Path, out: Path) -> tuple[LockedRun, ...]:
    """The recipe, or each model of its front, with its lock. Reads all that the recipe names before any work.

    Raises InputError, one line for each, for inputs that are not those of the lock.
    """
    return tuple(
        _locked(model, lock_path(recipe_file, model.name.removeprefix(loaded.name)), out)
        for model in expand_front(loaded)
    )


def _locked(recipe: Recipe, file: Path, out: Path) -> LockedRun:
    if not file.exists():
        raise InputError(f"{file} does not exist; a run without --locked that ends with an artifact writes it")
    lock = read_lock(file)
    other = [*drift.recipe_drift(lock, recipe_record(recipe)), *drift.file_drift(lock.inputs, file_digests(recipe))]
    if not other and data_now(recipe) != lock.inputs.data:
        other = drift.split_drift(lock.inputs, collect_inputs(recipe, out / ".cache"))
    if other:
        raise InputError("\n".join(f"{file}: {line}" for line in other))
    warnings = drift.environment_drift(lock.environment, environment_now(recipe))
    return LockedRun(recipe, file, lock, (*warnings, *_elsewhere(lock.decisions)))


def _elsewhere(decided: LockedDecisions) -> Iterator[str]:
    """What training cannot do as it did. The number of threads can be set, unless it changed on the way."""
    here = computes_on()
    for name in ("device", "processes"):
        if (then := getattr(decided, name)) != (here[name],):
            yield f"{name} is {here[name]}, the lock has {' and then '.join(map(str, then))}"
    if len(decided.threads) != 1:
        yield f"threads cannot be as they were: the lock has {' and then '.join(map(str, decided.threads)) or 'none'}"


def _steps(recipe: Recipe, lock: Lock) -> Iterator[PipelineStep]:
    """Training in the precision that it had, `profile` without times, and the lock's plan in the place of a search.

    What only the search would need is left out.
    """
    searches = [step for step in recipe.pipeline if step.stage.gives == "plan"]
    others = [step for step in recipe.pipeline if step not in searches]
    wanted = {name for step in others for name in (*step.stage.needs, *step.stage.uses)}
    unwanted = {name for step in searches for name in step.stage.needs} - wanted
    for step in recipe.pipeline:
        if step in searches:
            yield PipelineStep(name="replay", stage=Replay(plan=lock.plan))
        elif isinstance(step.stage, ProfileStage):
            yield PipelineStep(name="trace", stage=_trace(step.stage, lock))
        elif step.stage.gives not in unwanted:
            yield _as_trained(step, lock.decisions.bf16)


def _trace(stage: ProfileStage, lock: Lock) -> UntimedProfile:
    """With the recipe's own options: a lock says which transforms took part, not what they are."""
    named = stage.named_plugins()["transforms"]
    took_part = {name: named[name] for name in lock.decisions.transforms if name in named}
    return UntimedProfile(transforms=took_part, images=stage.images)


def _as_trained(step: PipelineStep, bf16: Mapping[str, bool]) -> PipelineStep:
    """A stage that trains, in bf16 or not as the lock says of its phases."""
    stage = step.stage
    phases = {name: option for name, option in stage if isinstance(option, Schedule)}
    update: dict[str, Any] = {
        name: phase.model_copy(update={"bf16": bf16[name]}) for name, phase in phases.items() if name in bf16
    }
    if isinstance(stage, Schedule) and step.name in bf16:
        update["bf16"] = bf16[step.name]
    return PipelineStep(name=step.name, stage=stage.model_copy(update=update)) if update else step


def _another(then: Lock, now: Lock) -> Iterator[str]:
    """What came out otherwise, and why that may be."""
    for name in sorted({*then.artifact, *now.artifact}):
        a, b = (lock.artifact.get(name, drift.ABSENT) for lock in (then, now))
        if a != b:
            locked, made = drift.shown_value(a), drift.shown_value(b)
            yield f"the artifact is another one: {name} is {made} (sha256), the lock has {locked}"
    yield from drift.outcome_drift(then, now)
    yield drift.first_other_product(then, now)
