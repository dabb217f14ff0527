"""`paredown gate`: holds a model to its budgets. Exit codes: 0 pass, 1 fail, 2 no verdict (bad input, evidence that
cannot be trusted, something unexpected), 3 inconclusive; 4 and 5 as everywhere: not installed, the machine refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from paredown.models.errors import InputError
from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.gate.outcome import INVALID, PASS, exit_code

if TYPE_CHECKING:
    from paredown.pipeline.gate.budgets import Gates
    from paredown.pipeline.gate.gate import GateRequest

FORMATS = ("table", "json", "junit", "markdown", "github")
_PATH = click.Path(path_type=Path)


@click.command("gate")
@click.argument("model", type=_PATH)
@click.option("--baseline", type=_PATH, help="The model to compare with.")
@click.option("--budgets", type=_PATH, help="The budgets file; without one: no larger and no slower than the baseline.")
@click.option("--static", is_flag=True, help="Only what can be read from the files; nothing is run.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(FORMATS))
@click.option("--save", multiple=True, type=_PATH, help="Also write FILE: .json, .xml (JUnit) or .md.")
@click.option(
    "--inconclusive",
    default="inconclusive",
    type=click.Choice(["pass", "fail", "inconclusive"]),
    help="What a gate without a clear answer counts as (default: exit code 3).",
)
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), help="The longest that latency is measured.")
@click.option("--why", is_flag=True, help="Also list where the bytes and the milliseconds are.")
@click.option("--update-baseline", is_flag=True, help="Make MODEL the baseline, and show what changes.")
@click.option("--watch-noise", is_flag=True, help="Time MODEL against itself: what can this machine resolve?")
def gate_verb(
    model: Path,
    baseline: Path | None,
    budgets: Path | None,
    static: bool,
    form: str,
    save: Sequence[Path],
    inconclusive: Literal["pass", "fail", "inconclusive"],
    seconds: float | None,
    why: bool,
    update_baseline: bool,
    watch_noise: bool,
) -> None:
    """Hold a model to its budgets: any ONNX classifier, from paredown or not."""
    checking = {"--static": static, "--why": why, "--save": save, "--baseline": baseline, "--watch-noise": watch_noise}

    def action() -> int:
        from paredown.pipeline.gate.budgets import gates_for

        if update_baseline or watch_noise:
            _refuse_together("--update-baseline" if update_baseline else "--watch-noise", checking)
        gates = gates_for(budgets, seconds)
        if update_baseline:
            return _update(gates, budgets, model)
        if watch_noise:
            return _watch(gates, model)
        from paredown.pipeline.gate.gate import GateRequest

        request = GateRequest(model, baseline or _pinned(gates, budgets), gates, static=static, explain=why)
        return _check(request, form, save, inconclusive)

    raise click.exceptions.Exit(run_guarded(action, own_fault=INVALID))


def _refuse_together(alone: str, others: Mapping[str, object]) -> None:
    if more := [name for name, given in others.items() if given and name != alone]:
        raise InputError(f"{alone} checks no budget, so {', '.join(more)} means nothing beside it")


def _pinned(gates: "Gates", budgets: Path | None) -> Path | None:
    """The baseline that the budgets file names, as people would write its path; None where there is none."""
    from paredown.pipeline.gate.baseline_pin import pinned_baseline

    path, here = pinned_baseline(gates, budgets) if budgets else None, Path.cwd()
    return path.relative_to(here) if path and path.is_relative_to(here) else path


def _update(gates: "Gates", budgets: Path | None, model: Path) -> int:
    from paredown.pipeline.gate.baseline_pin import update_baseline

    if budgets is None:
        raise InputError("--update-baseline needs --budgets: its key `baseline` says where the baseline is kept")
    changes = update_baseline(gates, budgets, model)
    click.echo(changes or "nothing changed\n", nl=False)
    return PASS


def _watch(gates: "Gates", model: Path) -> int:
    from paredown.models.progress import silent_progress
    from paredown.pipeline.gate.noise import watch_noise

    for line in watch_noise(gates, model, silent_progress):
        click.echo(line)
    return PASS


def _check(
    request: "GateRequest", form: str, save: Sequence[Path], inconclusive: Literal["pass", "fail", "inconclusive"]
) -> int:
    """Runs the gate, prints and saves its outcome, and returns the exit code."""
    from paredown.pipeline.commands.progress_bars import show_progress
    from paredown.pipeline.gate.formats.write import FORMATS, form_of, save_as, write_step_summary
    from paredown.pipeline.gate.gate import run_gate

    for file in save:
        form_of(file)  # a wrong name is refused before minutes of measuring
    with show_progress() as progress:
        outcome = run_gate(request, progress)
    click.echo(FORMATS[form](outcome), nl=False)
    for file in save:
        save_as(outcome, file)
    if warning := write_step_summary(outcome):
        click.echo(f"warning: {warning}", err=True)
    return exit_code(outcome.verdict, inconclusive)
