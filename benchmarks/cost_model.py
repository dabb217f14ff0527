"""Predicted against measured latency: the cost model of a subject on plans that it was not fitted to.

Plans are answers of the exact solver for a row of latency limits, so they are of the sort that a search really
measures. The first few correct the model, as a search's rounds do; every other plan is predicted by a model that was
corrected by those before it, then measured in turns with the original.
"""

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
from scipy.stats import spearmanr

from paredown.models.errors import ParedownError
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.planning.correction import refitted
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.products.cost_profile import CostProfile, PlanSample
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import Problem, with_limits

HERE = Path(__file__).resolve().parent
ROUNDS = 27
"""Of fresh sessions: as many as `verify` takes."""


@dataclass(frozen=True)
class Seen:
    """A plan's latency, ms: by the profile alone, by the corrected model, and measured."""

    profiled: float
    predicted: float
    measured: float

    def error(self, value: float) -> float:
        return abs(value / self.measured - 1)


def solved(problem: Problem, whole: float, count: int, seed: int) -> list[dict[str, str]]:
    """Plans for `count` latency limits, from just feasible to the original's, in an order drawn at random; one that
    several limits share is made different in a tenth of its sites."""
    found: list[dict[str, str]] = []
    least = Milp().solve(with_limits(problem, {"latency": 1e-6})).costs["latency"]
    limits = np.linspace(1.05 * least, 0.95 * whole, count)
    for limit in np.random.default_rng(seed).permutation(limits):
        one = with_limits(problem, {"latency": float(limit)})
        choice = dict(Milp().solve(one).choice)
        if choice in found:
            choice = dict(Milp().solve(one, tuple(found[-4:])).choice)
        found.append(choice)
    return found


def compare(meter: PlanMeter, profile: CostProfile, plans: list[dict[str, str]]) -> list[Seen]:
    """Each plan predicted, then measured; the model of each has learnt from those before it, as a search's would."""
    seen, samples, space = list[Seen](), list[PlanSample](profile.samples), meter.space
    for index, plan in enumerate(plans):
        meter.state.progress("plans", index, len(plans))
        alone = space.predict(profile, plan)["latency"]
        now = refitted(space, profile, samples, index, alone)
        known = space.predict(now, plan)["latency"]
        sample = meter.sample(plan)
        seen.append(Seen(alone, known, sample.latency))
        samples.append(sample)
    return seen


def table(name: str, seen: list[Seen], first: int, whole: float) -> str:
    """One row: errors by the profile alone, and corrected, of the plans after the first ones."""
    after = seen[first:]
    raw, known = [one.error(one.profiled) for one in after], [one.error(one.predicted) for one in after]
    slower = [error for one, error in zip(after, known, strict=True) if one.measured >= SMALL * whole]
    rank = spearmanr([one.predicted for one in after], [one.measured for one in after]).statistic
    cells = [
        name,
        str(len(after)),
        *(f"{100 * f(e):.1f} %" for e in (raw, known) for f in (median, max)),
        f"{100 * max(slower):.1f} % ({len(slower)})",
        f"{rank:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


SMALL = 0.2
"""Of the original's latency. Under it hardly a layer is left, and a microsecond is a percent or more."""

HEAD = (
    "| subject | plans | profile alone: median error | worst | corrected: median error | worst "
    f"| worst over {SMALL}x (plans) | rank correlation |\n" + "| --- " * 8 + "|"
)

TIMES = "| subject | sites | stage, s | solve for three other limits, s |\n| --- | --- | --- | --- |"
STAGES = ("library", "profile", "sensitivity")


def resolved(problem: Problem, whole: float, factor: float) -> float:
    """Seconds of one exact solve for another latency limit."""
    start = time.monotonic()
    Milp().solve(with_limits(problem, {"latency": factor * whole}))
    return time.monotonic() - start


@click.command()
@click.argument("subjects", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option("--plans", default=36, show_default=True, help="Plans to measure.")
@click.option("--first", default=6, show_default=True, help="Of them, those that only correct the model.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/cost_model.md.")
def main(subjects: tuple[Path, ...], folder: Path, plans: int, first: int, write: bool) -> None:
    """Compare predicted with measured latency on SUBJECTS, recipes such as those in benchmarks/subjects."""
    logging.disable(logging.WARNING)
    rows, times, machine = [HEAD], [TIMES], ""
    for file in subjects:
        try:
            recipe = load_recipe(file)
            state = run_pipeline(recipe, folder, until="sensitivity")
        except ParedownError as error:
            raise click.ClickException(str(error)) from error
        seconds = json.loads((folder / recipe.name / "timings.json").read_text())
        with TemporaryDirectory() as scratch:
            row, solves, machine = _subject(recipe.name, replace(state, out=Path(scratch)), plans, first)
        rows.append(row)
        spent = ", ".join(f"{name} {seconds[name]:.0f}" for name in STAGES if name in seconds)
        times.append(f"| {recipe.name} | {solves[0]:.0f} | {spent} | {', '.join(f'{s:.1f}' for s in solves[1:])} |")
        click.echo(f"{rows[-1]}\n{times[-1]}", err=True)
    text = "\n".join([*rows, "", *times, "", machine, ""])
    click.echo(text, nl=False)
    if write:
        (HERE / "results" / "cost_model.md").write_text(f"# Cost model\n\n{text}")


def _subject(name: str, state: State, plans: int, first: int) -> tuple[str, list[float], str]:
    """The subject's row of errors; the number of sites and the seconds of three solves; and the machine."""
    space, profile = load_plan_space(state), load_profile(state)
    meter = PlanMeter(space, state, rounds=ROUNDS)
    problem = build_problem(space, profile, ExpectedLosses.load(state.product("sensitivity")).losses, {"latency": 1.0})
    whole = space.predict(profile, {})["latency"]
    solves = [float(len(problem.sites)), *(resolved(problem, whole, factor) for factor in (0.4, 0.3, 0.25))]
    seen = compare(meter, profile, solved(problem, whole, plans, state.seed))
    machine = ", ".join(f"{key} {value}" for key, value in meter.runtime.machine().items())
    for one in sorted(seen[first:], key=lambda one: one.measured):
        click.echo(f"{one.measured:.4f} ms, predicted {one.predicted:.4f}, by profile {one.profiled:.4f}", err=True)
    return table(name, seen, first, whole), solves, f"{meter.runtime.version()}; {machine}."


if __name__ == "__main__":
    main()
