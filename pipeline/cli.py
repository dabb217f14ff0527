"""The command line: verbs and exit codes. Results go to stdout, everything else to stderr.

Exit codes: 0 ok, 1 unexpected (a log file is named), 2 bad input, 3 a limit is not met (or the artifact of a lock came
out otherwise), 4 something optional is not installed, 5 the machine refused (disk, lock), 130 stopped.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paredown.models.spec import InputError, LimitError
from paredown.pipeline.diff import diff_verb
from paredown.pipeline.errors import harmless, run_guarded
from paredown.pipeline.gate.verb import gate_verb
from paredown.pipeline.show import show_verb
from paredown.pipeline.sidecars import runtime_verbs
from paredown.pipeline.sign import sign_verb

if TYPE_CHECKING:
    from paredown.pipeline.recipe import Recipe
    from paredown.pipeline.runner import Decided

_RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
_OUT = click.option(
    "--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all runs."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paredown")
def cli() -> None:
    """Pares an image classifier down until it fits the device it must run on, with proof."""


cli.add_command(gate_verb)
cli.add_command(runtime_verbs)
cli.add_command(show_verb)
cli.add_command(sign_verb)
cli.add_command(diff_verb)


@cli.command("init")
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", default="recipe.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--image-size", default=224, show_default=True, help="Side of the model's input in pixels.")
def init_verb(model: str, data: str, output: Path, image_size: int) -> None:
    """Write a first recipe to edit.

    MODEL is timm/<name>, torchvision/<name> or path/to/file.py:factory; DATA is a folder of images with one
    folder per class, or whatever else a recipe's data.source allows.
    """
    from paredown.pipeline.init import write_recipe

    write_recipe(model, data, output, image_size)
    _tell(f"wrote {output}; next: paredown check {output}")


@cli.command("import-recipe")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", default="recipe.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--image-size", default=224, show_default=True, help="Side of the model's input in pixels.")
@click.option("--sparsity", type=click.FloatRange(0, 0.999), help="Fraction of zeros that the weights came with.")
def import_verb(source: Path, model: str, data: str, output: Path, image_size: int, sparsity: float | None) -> None:
    """Turn a SparseML recipe into a paredown recipe.

    SOURCE is a SparseML recipe (.yaml, or .md with YAML front matter); MODEL and DATA are those of `paredown init`.
    """
    from paredown.pipeline.sparseml_import import import_recipe

    for note in import_recipe(source, model, data, output, image_size, sparsity):
        _tell(f"no counterpart: {note}")
    _tell(f"wrote {output}; next: paredown check {output}")


@cli.command("export-recipe")
@_RECIPE
@_OUT
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there instead of to stdout.")
@click.option("--style", default="epoch", show_default=True, type=click.Choice(["epoch", "stage"]))
def export_verb(recipe: Path, out: Path, output: Path | None, style: str) -> None:
    """Write the plan of a run as a SparseML recipe."""
    from paredown.pipeline.init import write_new
    from paredown.pipeline.recipe import load_recipe
    from paredown.pipeline.sparseml_export import export_recipe

    text, notes = export_recipe(load_recipe(recipe), recipe, out, style)
    for note in notes:
        _tell(f"no counterpart: {note}")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_new(text, output)
        _tell(f"wrote {output}")


@cli.command("check")
@_RECIPE
@_OUT
def check_verb(recipe: Path, out: Path) -> None:
    """Check a recipe before any work."""
    from paredown.pipeline.check import check
    from paredown.pipeline.progress import shown
    from paredown.pipeline.recipe import load_recipe

    with shown() as progress:
        for line in check(load_recipe(recipe), out / ".cache", progress):
            click.echo(line)
    click.echo("ok")


@cli.command("run")
@_RECIPE
@_OUT
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
@click.option("--locked", is_flag=True, help="Make the artifact of the recipe's lock again, without searching.")
def run_verb(recipe: Path, out: Path, as_json: bool, locked: bool) -> None:
    """Run a recipe, or go on with it."""
    from paredown.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe)
    if locked:
        _guarded(lambda: _run_locked(loaded, recipe, out, as_json), out / loaded.name)
    elif loaded.front:
        _guarded(lambda: _run_front(loaded, recipe, out, as_json), out / loaded.name)
    else:
        _guarded(lambda: _run(loaded, out, None, lambda f: _close(loaded, recipe, f, as_json)), out / loaded.name)


@cli.command("plan")
@_RECIPE
@_OUT
def plan_verb(recipe: Path, out: Path) -> None:
    """Search only, and print the plan."""
    from paredown.pipeline.recipe import along, load_recipe

    loaded = load_recipe(recipe)
    for model in along(loaded):
        _guarded(functools.partial(_run, model, out, "search", _print_plan), out / loaded.name)


@cli.command("report")
@_RECIPE
@_OUT
def report_verb(recipe: Path, out: Path) -> None:
    """Write the last run's report and model card again."""
    from paredown.pipeline.card import write_card
    from paredown.pipeline.recipe import along, load_recipe

    for model in along(load_recipe(recipe)):
        folder = out / model.name
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist; start with: paredown run {recipe}")
        click.echo(str(_report().render(folder)))
        if card := write_card(model.card, folder):
            _tell(f"model card: {card}")


@cli.command("list")
def list_verb() -> None:
    """List what a recipe can name."""
    from paredown.pipeline.sidecars import sidecar_lines
    from paredown.stages import discovery

    for kind in discovery.KINDS:
        click.echo(f"{kind}:")
        names = discovery.names(kind)
        for name in names:
            lack = discovery.missing(kind, name)
            click.echo(f"  {name:<{max(map(len, names))}}  {lack or discovery.summary(kind, name)}")
    click.echo("sidecars:")
    for line in sidecar_lines():
        click.echo(f"  {line}")
    click.echo("models:")
    for library in ("timm", "torchvision"):
        click.echo(f"  {f'{library}/<name>':<20} {library} {importlib.metadata.version(library)}")
    click.echo("  path/to/file.py:factory")


def main(argv: Sequence[str] | None = None) -> None:
    """The `paredown` command; ends the process with an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_guarded(lambda: _click(argv)))


def _click(argv: Sequence[str] | None) -> None:
    """Runs a verb; what click says about wrong arguments becomes an InputError."""
    try:
        code = cli.main(args=argv, prog_name="paredown", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        _tell(error.format_message())
        raise SystemExit(InputError.exit_code) from error
    except click.ClickException as error:
        raise InputError(f"{error.format_message()} (see paredown --help)") from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    if code:
        raise SystemExit(code)


def _guarded(action: Callable[[], None], logs: Path) -> None:
    """Runs an action whose log of an unexpected failure belongs into the run's folder."""
    if code := run_guarded(action, logs):
        raise click.exceptions.Exit(code)


def _run(
    recipe: "Recipe",
    out: Path,
    until: str | None,
    close: Callable[[Path], None],
    decided: "Decided | None" = None,
) -> None:
    """Runs the stages and shows the outcome, also that of a run which a limit ended."""
    from paredown.pipeline.products import read_notes
    from paredown.pipeline.progress import shown
    from paredown.pipeline.runner import run, writes

    refusal: LimitError | None = None
    with contextlib.redirect_stdout(sys.stderr), shown() as progress:
        try:
            run(recipe, out, until, progress, decided)
        except LimitError as error:
            refusal = error
    try:
        if writes():
            for line in read_notes(out / recipe.name):
                _tell(f"warning: {line}")
            close(out / recipe.name)
    finally:
        if refusal:  # it comes first, whatever else goes wrong
            raise refusal


def _run_front(loaded: "Recipe", recipe: Path, out: Path, as_json: bool) -> None:
    """Finishes a model for every limit of the front, whatever becomes of the others, and compares them."""
    from paredown.pipeline import front
    from paredown.pipeline.recipe import along
    from paredown.pipeline.runner import writes

    models, refusals = along(loaded), list[str]()
    for model in models:
        try:
            _run(model, out, None, functools.partial(_write, model, recipe, suffix=model.name[len(loaded.name) :]))
        except LimitError as error:
            refusals.append(f"{model.limits.latency_p50}: {error}")
    if writes():
        _show(front.compared(models, out), as_json)
    if refusals:
        raise LimitError("; ".join(refusals))


def _run_locked(loaded: "Recipe", recipe: Path, out: Path, as_json: bool) -> None:
    """Makes the artifact of every lock of the recipe again, and says whether it is the same."""
    from paredown.pipeline import front, replay
    from paredown.pipeline.runner import writes

    every, refusals = replay.locked(loaded, recipe, out), list[str]()
    for one in every:
        folder = out / one.recipe.name
        for line in one.warnings:
            _tell(f"warning: {one.file}: {line}")
        with _noted(refusals), one.threads():
            _run(one.recipe, out, None, functools.partial(_describe, one.recipe), one.decided())
        with _noted(refusals):
            if writes() and (folder / "artifact").is_dir():
                _tell(one.outcome(folder))
    if writes() and loaded.front:
        _show(front.compared([one.recipe for one in every], out), as_json)
    elif writes():
        _show([asdict(row) for row in _report().closing_table(out / loaded.name)], as_json)
    if refusals:
        raise LimitError("; ".join(refusals))


@contextlib.contextmanager
def _noted(refusals: list[str]) -> Iterator[None]:
    """Goes on behind a limit that is not met, which is told at the end."""
    try:
        yield
    except LimitError as error:
        refusals.append(str(error))


def _close(loaded: "Recipe", recipe: Path, folder: Path, as_json: bool) -> None:
    """Prints the closing table, writes the report and the lock, and says where things are."""
    rows = [asdict(row) for row in _report().closing_table(folder)]
    _show(rows, as_json)
    _write(loaded, recipe, folder)


def _write(loaded: "Recipe", recipe: Path, folder: Path, suffix: str = "") -> None:
    """Writes report, model card and lock, and says where they and the artifact are."""
    from paredown.pipeline.lock import write_lock

    artifact = next(iter(sorted((folder / "artifact").glob("model.onnx*"))), None)
    if artifact is not None:
        _tell(f"artifact: {artifact}")
        _tell(f"lock: {write_lock(loaded, recipe, folder, suffix)}")
    _describe(loaded, folder)


def _describe(loaded: "Recipe", folder: Path) -> None:
    """Writes report and model card, and says where they are."""
    from paredown.pipeline.card import write_card

    _tell(f"report: {_report().render(folder)}")
    if card := write_card(loaded.card, folder):
        _tell(f"model card: {card}")


def _report() -> Any:
    return importlib.import_module("paredown.pipeline.report")


def _print_plan(folder: Path) -> None:
    from paredown.pipeline.plan import budget_rows, read_plan, site_rows
    from paredown.pipeline.products import told_as_damage

    with told_as_damage(folder):
        plan = read_plan(folder)
        for rows in (budget_rows(plan), site_rows(plan)):
            if rows:
                _print_table(rows)


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
    else:
        _print_table(rows)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()), box=None)
    for row in rows:
        table.add_row(*(escape(_cell(cell)) for cell in row.values()))
    Console(file=sys.stdout).print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
    return harmless(str(value))


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
