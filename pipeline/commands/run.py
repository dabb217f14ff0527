"""`paredown run`, `plan` and `report`: runs a recipe, and shows its results."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paredown.models.errors import InputError, LimitError
from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.commands.output import OUT_OPTION, RECIPE_ARGUMENT, print_table, show_rows, tell

if TYPE_CHECKING:
    from paredown.pipeline.recipe.recipe import Recipe
    from paredown.pipeline.run.runner import LockOverrides


@click.command("run")
@RECIPE_ARGUMENT
@OUT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
@click.option("--locked", is_flag=True, help="Make the artifact of the recipe's lock again, without searching.")
def run_verb(recipe: Path, out: Path, as_json: bool, locked: bool) -> None:
    """Run a recipe, or go on with it."""
    from paredown.pipeline.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    way = _run_locked if locked else _run_front if loaded.front else _run_one
    _guarded(functools.partial(way, loaded, recipe, out, as_json), out / loaded.name)


@click.command("plan")
@RECIPE_ARGUMENT
@OUT_OPTION
def plan_verb(recipe: Path, out: Path) -> None:
    """Search only, and print the plan."""
    from paredown.pipeline.recipe.recipe import expand_front, load_recipe

    loaded = load_recipe(recipe)
    for model in expand_front(loaded):
        _guarded(functools.partial(_run_stages, model, out, _print_plan, until="search"), out / loaded.name)


@click.command("report")
@RECIPE_ARGUMENT
@OUT_OPTION
def report_verb(recipe: Path, out: Path) -> None:
    """Write the last run's report and model card again."""
    from paredown.pipeline.recipe.recipe import expand_front, load_recipe
    from paredown.pipeline.report.model_card import write_card
    from paredown.pipeline.report.report import render

    for model in expand_front(load_recipe(recipe)):
        folder = out / model.name
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist; start with: paredown run {recipe}")
        click.echo(str(render(folder)))
        if card := write_card(model.card, folder):
            tell(f"model card: {card}")


def _guarded(action: Callable[[], None], logs: Path) -> None:
    """Runs an action whose log of an unexpected failure belongs into the run's folder."""
    if code := run_guarded(action, logs):
        raise click.exceptions.Exit(code)


def _run_one(loaded: "Recipe", file: Path, out: Path, as_json: bool) -> None:
    """Runs a recipe, prints the closing table, and writes report, model card and lock."""

    def close(folder: Path) -> None:
        _print_closing_table(folder, as_json)
        _write(loaded, file, folder)

    _run_stages(loaded, out, close)


def _run_front(loaded: "Recipe", file: Path, out: Path, as_json: bool) -> None:
    """Finishes a model for every limit of the front, whatever becomes of the others, and compares them."""
    from paredown.pipeline.recipe.recipe import expand_front
    from paredown.pipeline.report import front
    from paredown.pipeline.run.runner import is_rank_zero

    models, refusals = expand_front(loaded), list[str]()
    for model in models:
        with _collected(refusals, f"{model.limits.latency_p50}: "):
            suffix = model.name.removeprefix(loaded.name)
            _run_stages(model, out, functools.partial(_write, model, file, suffix=suffix))
    if is_rank_zero():
        show_rows(front.compared(models, out), as_json)
    if refusals:
        raise LimitError("; ".join(refusals))


def _run_locked(loaded: "Recipe", file: Path, out: Path, as_json: bool) -> None:
    """Makes the artifact of every lock of the recipe again, and says whether it is the same."""
    from paredown.pipeline.lock import locked_run
    from paredown.pipeline.report import front
    from paredown.pipeline.run.runner import is_rank_zero

    models, refusals = locked_run.locked(loaded, file, out), list[str]()
    for model in models:
        folder = out / model.recipe.name
        for line in model.warnings:
            tell(f"warning: {model.file}: {line}")
        with _collected(refusals), model.threads():
            _run_stages(model.recipe, out, functools.partial(_describe, model.recipe), overrides=model.decided())
        with _collected(refusals):
            if is_rank_zero() and (folder / "artifact").is_dir():
                tell(model.outcome(folder))
    if is_rank_zero() and loaded.front:
        show_rows(front.compared([model.recipe for model in models], out), as_json)
    elif is_rank_zero():
        _print_closing_table(out / loaded.name, as_json)
    if refusals:
        raise LimitError("; ".join(refusals))


def _run_stages(
    recipe: "Recipe",
    out: Path,
    close: Callable[[Path], None],
    until: str | None = None,
    overrides: "LockOverrides | None" = None,
) -> None:
    """Runs the stages up to `until` and calls `close` with the run's folder, also where a limit ended the run."""
    from paredown.pipeline.commands.progress_bars import show_progress
    from paredown.pipeline.run.runner import is_rank_zero, run
    from paredown.stages.products.product_files import read_notes

    refusal: LimitError | None = None
    with contextlib.redirect_stdout(sys.stderr), show_progress() as progress:
        try:
            run(recipe, out, until, progress, overrides)
        except LimitError as error:
            refusal = error
    try:
        if is_rank_zero():
            for line in read_notes(out / recipe.name):
                tell(f"warning: {line}")
            close(out / recipe.name)
    finally:
        if refusal:  # it comes first, whatever else goes wrong
            raise refusal


@contextlib.contextmanager
def _collected(refusals: list[str], start: str = "") -> Iterator[None]:
    """Adds a limit that is not met to `refusals` and goes on: all of them are raised together at the end."""
    try:
        yield
    except LimitError as error:
        refusals.append(f"{start}{error}")


def _print_closing_table(folder: Path, as_json: bool) -> None:
    from paredown.pipeline.report.closing_table import closing_table

    show_rows([asdict(row) for row in closing_table(folder)], as_json)


def _write(loaded: "Recipe", file: Path, folder: Path, suffix: str = "") -> None:
    """Writes report, model card and lock, and says where they and the artifact are."""
    from paredown.pipeline.lock.collect import write_lock

    artifact = next(iter(sorted((folder / "artifact").glob("model.onnx*"))), None)
    if artifact is not None:
        tell(f"artifact: {artifact}")
        tell(f"lock: {write_lock(loaded, file, folder, suffix)}")
    _describe(loaded, folder)


def _describe(loaded: "Recipe", folder: Path) -> None:
    """Writes report and model card, and says where they are."""
    from paredown.pipeline.report.model_card import write_card
    from paredown.pipeline.report.report import render

    tell(f"report: {render(folder)}")
    if card := write_card(loaded.card, folder):
        tell(f"model card: {card}")


def _print_plan(folder: Path) -> None:
    from paredown.pipeline.report.plan_rows import budget_rows, read_plan, site_rows
    from paredown.pipeline.run.run_folder import as_damage

    with as_damage(folder):
        plan = read_plan(folder)
        for rows in (budget_rows(plan), site_rows(plan)):
            if rows:
                print_table(rows)
