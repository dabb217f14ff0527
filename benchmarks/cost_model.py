"""Predicted against measured latency: what a search's first answer to each of a row of limits takes.

A subject's recipe runs up to its sensitivities, with little training, as what a network has learnt changes no time.
Then the exact solver answers ten latency limits from what the profile knows; no answer teaches anything for the next
one. Each plan is predicted, and measured in turns with the original.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
from load import busy
from scipy.stats import spearmanr

from paredown.models.errors import ParedownError
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe, load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import CAUTION, build_problem
from paredown.stages.planning.teaching_plans import fastest
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import Choice, with_limits

HERE = Path(__file__).resolve().parent
ROUNDS = 27
"""Of fresh sessions: as many as `verify` takes."""
BRIEF = {
    "fit": {"epochs": 1},
    "library": {"images": 64, "steps": 4},
    "sensitivity": {"images": 32, "plans": 4},
}
"""Options that change what is learnt, and no time."""


@dataclass(frozen=True)
class Answer:
    """A solver's answer to a limit: ms as predicted, the standard deviation of that, and ms as measured."""

    subject: str
    runtime: str
    load: int
    limit: float
    predicted: float
    deviation: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, positive where it was predicted too slow."""
        return self.predicted / self.measured - 1


def brief(recipe: Recipe, runtime: str) -> Recipe:
    """The recipe for a runtime, trained little and never searched."""
    target = recipe.target.model_copy(update={"runtime": runtime, "compare": ()})
    steps = tuple(_brief_step(step) for step in recipe.pipeline)
    changed = {"name": f"{recipe.name}-{runtime}", "target": target, "pipeline": steps}
    return recipe.model_copy(update=changed)


def _brief_step(step: PipelineStep) -> PipelineStep:
    return step.model_copy(update={"stage": step.stage.model_copy(update=BRIEF.get(step.name, {}))})


def plans_at_limits(state: State, count: int) -> Iterator[tuple[float, Choice]]:
    """(ms, plan) The first answer to each of `count` limits, from nearly the fastest plan to nearly the original."""
    space, profile = load_plan_space(state), load_profile(state)
    losses = ExpectedLosses.load(state.product("sensitivity")).losses
    problem, solver = build_problem(space, profile, losses, {"latency": 1.0}, CAUTION), Milp()
    least, whole = fastest(problem, solver), space.latency(profile, {}).ms
    for limit in np.geomspace(1.05 * least, 0.9 * whole, count):
        yield float(limit), solver.solve(with_limits(problem, {"latency": float(limit)})).choice


def answers(recipe: Recipe, state: State, count: int, load: int) -> Iterator[Answer]:
    """Each plan, predicted and measured while `load` processes are busy."""
    space, profile = load_plan_space(state), load_profile(state)
    meter = PlanMeter(space, state, rounds=ROUNDS)
    plans = list(plans_at_limits(state, count))
    with busy(load) if load else nullcontext():
        for limit, choice in plans:
            found = space.latency(profile, choice)
            measured = meter.sample(choice).latency
            names = (recipe.name, recipe.target.runtime, load)
            yield Answer(*names, limit, found.ms, found.deviation, measured)


def row(found: Sequence[Answer]) -> str:
    """One row of the table: a subject on a runtime."""
    errors = [abs(one.error) for one in found]
    within = [sum(error <= share for error in errors) / len(errors) for share in (0.05, 0.1)]
    rank = spearmanr([one.predicted for one in found], [one.measured for one in found]).statistic
    inside = sum(abs(one.predicted - one.measured) <= 2 * one.deviation for one in found)
    cells = [
        found[0].subject,
        found[0].runtime,
        str(found[0].load),
        str(len(found)),
        f"{100 * median(errors):.1f} %",
        f"{100 * within[0]:.0f} %",
        f"{100 * within[1]:.0f} %",
        f"{100 * max(errors):.1f} %",
        f"{rank:.3f}",
        f"{inside} of {len(found)}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| subject | runtime | busy processes | plans | median error | within 5 % | within 10 % | worst "
    "| rank correlation | within two predicted deviations |\n" + "| --- " * 10 + "|"
)


def told(line: Answer) -> str:
    """One answer for people who watch."""
    return f"{line.subject}: limit {line.limit:.4f}, predicted {line.predicted:.4f}, measured {line.measured:.4f} ms"


@click.command()
@click.argument("subjects", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option("--runtimes", default="onnxruntime,openvino", show_default=True, help="Separated by commas.")
@click.option("--limits", "count", default=10, show_default=True, help="Latency limits that are answered.")
@click.option("--load", default=0, show_default=True, help="Busy processes beside all measuring of plans.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/cost_model.md.")
def main(subjects: tuple[Path, ...], folder: Path, runtimes: str, count: int, load: int, write: bool) -> None:
    """Compare predicted with measured latency on SUBJECTS, recipes such as those in benchmarks/subjects."""
    logging.disable(logging.WARNING)
    rows, machine = [HEAD], ""
    folder.mkdir(parents=True, exist_ok=True)
    for file in subjects:
        for runtime in runtimes.split(","):
            recipe, found = brief(load_recipe(file), runtime), list[Answer]()
            try:
                state = run_pipeline(recipe, folder, until="sensitivity")
                with TemporaryDirectory() as scratch, (folder / "cost_model.jsonl").open("a") as kept:
                    for one in answers(recipe, replace(state, out=Path(scratch)), count, load):
                        found.append(one)
                        kept.write(json.dumps(asdict(one)) + "\n")
                        click.echo(told(one), err=True)
                    meter = PlanMeter(load_plan_space(state), state)
            except ParedownError as error:
                raise click.ClickException(str(error)) from error
            machine = ", ".join(f"{key} {value}" for key, value in meter.runtime.machine().items())
            rows.append(row(found))
            click.echo(rows[-1], err=True)
    text = "\n".join([*rows, "", f"{machine}.", ""])
    click.echo(text, nl=False)
    if write:
        (HERE / "results" / "cost_model.md").write_text(f"# Cost model\n\n{text}")


if __name__ == "__main__":
    main()
