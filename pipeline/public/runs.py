"""Runs from their first stage to their result: also what a limit ended, and what a lock decides."""

from dataclasses import replace
from pathlib import Path

from paredown.models.errors import LimitError
from paredown.models.progress import Progress
from paredown.pipeline.artifact.artifact import model_in
from paredown.pipeline.lock.collect import write_lock
from paredown.pipeline.lock.locked_run import LockedRun
from paredown.pipeline.public.results import RunResult
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.closing_table import closing_table_of
from paredown.pipeline.report.model_card import write_card
from paredown.pipeline.report.report import render_report
from paredown.pipeline.run.rehearsal import rehearse_once
from paredown.pipeline.run.run_folder import as_damage, read_run_folder
from paredown.pipeline.run.runner import LockOverrides, is_rank_zero, run_pipeline


def run_stages(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    until: str | None = None,
    overrides: LockOverrides | None = None,
    rehearsal: bool = True,
) -> str:
    """Runs the stages, up to and with the one named `until`; returns the line with which a limit ended the run, empty
    where none did. Products are shown in `out/<recipe's name>/`.

    Stages rehearse first, once per recipe, unless `rehearsal` is False; not those that a lock decides, which came
    through before.
    """
    if rehearsal and overrides is None:
        rehearse_once(recipe, out / ".cache", progress)
    try:
        run_pipeline(recipe, out, until, progress, overrides)
    except LimitError as error:
        return str(error) or "a limit is not met"
    return ""


def run_to_end(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    lock_file: Path | None = None,
    suffix: str = "",
    rehearsal: bool = True,
) -> RunResult:
    """Runs all stages and writes what a finished run leaves, see `finish_run`; also of a run that a limit ended."""
    refusal = run_stages(recipe, out, progress, rehearsal=rehearsal)
    return finish_run(recipe, out / recipe.name, refusal, lock_file, suffix)


def run_locked(one: LockedRun, out: Path, progress: Progress) -> RunResult:
    """Makes the artifact of a lock again; `confirmed` says that it is the same, `refusal` what differs."""
    folder = out / one.recipe.name
    with one.threads():
        refusal = run_stages(one.recipe, out, progress, overrides=one.decided())
    result = replace(finish_run(one.recipe, folder, refusal), lock=one.file)
    if result.artifact is None:
        return result
    try:
        return replace(result, confirmed=one.outcome(folder))
    except LimitError as error:
        return replace(result, refusal="; ".join(filter(None, (refusal, str(error)))))


def raise_failure(result: RunResult) -> None:
    """Raises what kept lock, report or model card from being written. A refusal comes first, whatever else is wrong."""
    if result.failure and not result.refusal:
        raise result.failure


def finish_run(
    recipe: Recipe, folder: Path, refusal: str = "", lock_file: Path | None = None, suffix: str = ""
) -> RunResult:
    """Writes the report and the model card of the run in `folder`, and its lock beside the recipe `lock_file` (with
    `suffix` in its name) where there is an artifact; returns all of the run.

    What cannot be read or written is the result's `failure`: the run itself, and why it may have been refused, are not
    lost with it. Under torchrun only rank 0 writes, and returns more than the refusal.
    """
    result = RunResult(recipe.name, folder, refusal=refusal)
    if not is_rank_zero():
        return result
    try:
        with as_damage(folder):
            products = read_run_folder(folder)
            checks = closing_table_of(products)
        result = replace(result, checks=checks, plan=products.plan, notes=products.notes, seconds=products.timings)
        result = replace(result, artifact=model_in(folder / "artifact"), confidence=products.confidence)
        if result.artifact and lock_file:
            result = replace(result, lock=write_lock(recipe, lock_file, folder, suffix))
        result = replace(result, report=render_report(folder))
        return replace(result, model_card=write_card(recipe.card, folder))
    except Exception as error:
        return replace(result, failure=error)
