"""`paredown run`, `plan` and `report`: runs a recipe, and shows its results."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paredown.models.errors import InputError, LimitError
from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.commands.output import OUT_OPTION, RECIPE_ARGUMENT, print_measures, print_table, show_rows, tell

if TYPE_CHECKING:
    from paredown.models.progress import Progress
    from paredown.pipeline.public.results import RunResult
    from paredown.pipeline.recipe.recipe import Recipe
    from paredown.stages.limits import Limits


@click.command("run")
@RECIPE_ARGUMENT
@OUT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
@click.option("--locked", is_flag=True, help="Make the artifact of the recipe's lock again, without searching.")
@click.option("--no-rehearsal", is_flag=True, help="Start the first stage at once, even if `check` refuses the recipe.")
def run_verb(recipe: Path, out: Path, as_json: bool, locked: bool, no_rehearsal: bool) -> None:
    """Run a recipe, or go on with it."""
    from paredown.pipeline.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    if locked:
        action = functools.partial(_run_locked, loaded, recipe, out, as_json)
    else:
        action = functools.partial(
            _run_front if loaded.front else _run_one, loaded, recipe, out, as_json, not no_rehearsal
        )
    _guarded(action, out / loaded.name)


@click.command("plan")
@RECIPE_ARGUMENT
@OUT_OPTION
def plan_verb(recipe: Path, out: Path) -> None:
    """Search only, and print the plan."""
    from paredown.pipeline.recipe.recipe import expand_front, load_recipe

    loaded = load_recipe(recipe)
    for model in expand_front(loaded):
        _guarded(functools.partial(_plan, model, out), out / loaded.name)


@click.command("report")
@RECIPE_ARGUMENT
@OUT_OPTION
def report_verb(recipe: Path, out: Path) -> None:
    """Write the last run's report and model card again."""
    from paredown.pipeline.recipe.recipe import expand_front, load_recipe
    from paredown.pipeline.report.model_card import write_card
    from paredown.pipeline.report.report import render_report

    for model in expand_front(load_recipe(recipe)):
        folder = out / model.name
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist; start with: paredown run {recipe}")
        click.echo(str(render_report(folder)))
        if card := write_card(model.card, folder):
            tell(f"model card: {card}")


def _guarded(action: Callable[[], None], logs: Path) -> None:
    """Runs an action whose log of an unexpected failure belongs into the run's folder."""
    if code := run_guarded(action, logs):
        raise click.exceptions.Exit(code)


def _run_one(recipe: "Recipe", file: Path, out: Path, as_json: bool, rehearsal: bool) -> None:
    """Runs a recipe, prints the closing table, and says where report, model card and lock are."""
    from paredown.pipeline.public.runs import raise_failure, run_to_end
    from paredown.pipeline.run.runner import is_rank_zero

    with _progress() as progress:
        result = run_to_end(recipe, out, progress, file, rehearsal=rehearsal)
    _tell_warnings(result.notes)
    if is_rank_zero() and (result.checks or not result.failure):
        _show_checks(result, as_json)
    _tell_places(result)
    raise_failure(result)
    _raise_refusals([result.refusal])


def _run_front(recipe: "Recipe", file: Path, out: Path, as_json: bool, rehearsal: bool) -> None:
    """Finishes a model for every limit of the front, whatever becomes of the others, and compares them."""
    from paredown.pipeline.public.runs import raise_failure, run_to_end
    from paredown.pipeline.recipe.recipe import expand_front

    models, refusals = expand_front(recipe), list[str]()
    for model in models:
        with _progress() as progress:
            suffix = model.name.removeprefix(recipe.name)
            result = run_to_end(model, out, progress, file, suffix, rehearsal)
        _tell_warnings(result.notes)
        _tell_places(result)
        raise_failure(result)
        refusals += [f"{model.limits.latency_p50}: {result.refusal}"] if result.refusal else []
    _compare(models, out, as_json)
    _raise_refusals(refusals)


def _run_locked(recipe: "Recipe", file: Path, out: Path, as_json: bool) -> None:
    """Makes the artifact of every lock of the recipe again, and says whether it is the same."""
    from paredown.pipeline.lock.locked_run import locked_runs
    from paredown.pipeline.public.runs import raise_failure, run_locked
    from paredown.pipeline.run.runner import is_rank_zero

    models, results = locked_runs(recipe, file, out), list["RunResult"]()
    for model in models:
        _tell_warnings(f"{model.file}: {line}" for line in model.warnings)
        with _progress() as progress:
            results.append(run_locked(model, out, progress))
        _tell_warnings(results[-1].notes)
        _tell_places(replace(results[-1], artifact=None, lock=None))
        raise_failure(results[-1])
        if results[-1].confirmed:
            tell(results[-1].confirmed)
    if recipe.front:
        _compare([model.recipe for model in models], out, as_json)
    elif is_rank_zero():
        _show_checks(results[0], as_json)
    _raise_refusals([result.refusal for result in results])


def _show_checks(result: "RunResult", as_json: bool) -> None:
    """Prints the closing table; below it, on stderr, what its brackets are and what its verdicts rest on."""
    from paredown.models.printable import printable
    from paredown.pipeline.report.written_measures import closing_rows, interval_note, remarks

    if as_json:
        show_rows([asdict(check) for check in result.checks], as_json)
        return
    print_measures(closing_rows(result.checks))
    if note := interval_note(result.checks, result.confidence):
        tell(note)
    for line in remarks(result.checks):
        tell(printable(line))


@contextlib.contextmanager
def _progress() -> "Iterator[Progress]":
    """Bars on stderr, where whatever stages print goes too: stdout is for results."""
    from paredown.pipeline.commands.progress_bars import show_progress

    with contextlib.redirect_stdout(sys.stderr), show_progress() as progress:
        yield progress


def _tell_warnings(lines: Iterable[str]) -> None:
    for line in lines:
        tell(f"warning: {line}")


def _tell_places(result: "RunResult") -> None:
    """Where the artifact, its lock, the report and the model card are, as far as there are any."""
    places = {"artifact": result.artifact, "lock": result.lock, "report": result.report}
    for name, place in {**places, "model card": result.model_card}.items():
        if place:
            tell(f"{name}: {place}")


def _compare(models: "Sequence[Recipe]", out: Path, as_json: bool) -> None:
    from paredown.pipeline.report import front
    from paredown.pipeline.run.runner import is_rank_zero

    if is_rank_zero():
        show_rows(front.front_rows(models, out, words=not as_json), as_json)


def _raise_refusals(refusals: Iterable[str]) -> None:
    """Raises LimitError for limits that are not met, all in one line."""
    if line := "; ".join(filter(None, refusals)):
        raise LimitError(line)


def _plan(recipe: "Recipe", out: Path) -> None:
    """Runs the stages to the end of the search, and prints the plan; the nearest one where none holds the limits."""
    from paredown.pipeline.public.runs import run_stages
    from paredown.pipeline.run.runner import is_rank_zero
    from paredown.stages.products.product_files import read_notes

    with _progress() as progress:
        refusal = run_stages(recipe, out, progress, until="search")
    if is_rank_zero():
        _tell_warnings(read_notes(out / recipe.name))
        _print_plan(out / recipe.name, recipe.limits)
    _raise_refusals([refusal])


def _print_plan(folder: Path, limits: "Limits") -> None:
    from paredown.pipeline.report.plan_rows import budget_rows, kept_to_note, read_plan, site_rows
    from paredown.pipeline.run.run_folder import as_damage

    with as_damage(folder):
        plan = read_plan(folder)
        for rows in (budget_rows(plan, limits), site_rows(plan)):
            if rows:
                print_table(rows)
        if plan and plan.loss_check:
            click.echo(plan.loss_check.sentence())
        if note := kept_to_note(plan, limits):
            tell(note)
