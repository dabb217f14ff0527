"""Predicted against measured loss of whole plans, before any training, on images that nobody fitted to.

Plans are answers of the exact solver for a row of latency limits, from the harshest that is possible to hardly any
change. What a plan really loses is measured on the half of validation that no loss was measured on: the KL divergence
from the original's answers, and top-1 accuracy.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from paredown.models.errors import ParedownError
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.teacher_comparison import TeacherComparison, divergences
from paredown.stages.planning.teaching_plans import fastest
from paredown.stages.planning.unseen_images import held_out_images
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import Problem, Solution, with_limits

HERE = Path(__file__).resolve().parent
MILD = 0.1
"""Nats. Plans that lose less, and those that lose more, have columns of their own."""
RESAMPLED = 2000


@dataclass(frozen=True)
class Seen:
    """A plan for a `limit` (a share of the original's latency): its loss `predicted`, and on each image of the
    measurement its `losses` and whether it is `right`."""

    limit: float
    predicted: float
    losses: NDArray[np.float64]
    right: NDArray[np.bool_]

    @property
    def measured(self) -> float:
        return float(self.losses.mean())

    @property
    def error(self) -> float:
        return float(self.losses.std(ddof=1) / math.sqrt(len(self.losses)))

    @property
    def off(self) -> float:
        """Measured over predicted."""
        return self.measured / max(self.predicted, 1e-12)


def solved(problem: Problem, whole: float, count: int) -> list[tuple[float, Solution]]:
    """Plans for `count` latency limits, evenly from just feasible to nine tenths of the original's; one that several
    limits share is there once."""
    least = fastest(problem, Milp())
    found: dict[tuple[tuple[str, str], ...], tuple[float, Solution]] = {}
    for limit in np.linspace(1.05 * least, 0.9 * whole, count).tolist():
        solution = Milp().solve(with_limits(problem, {"latency": limit}))
        found.setdefault(tuple(sorted(solution.choice.items())), (limit / whole, solution))
    return list(found.values())


def interval(seen: list[Seen], figure: Callable[[list[Seen]], float], seed: int) -> tuple[float, float]:
    """95 % of a figure's values over bootstrap samples of images and of plans."""
    rng, values = np.random.default_rng(seed), list[float]()
    for _ in range(RESAMPLED):
        images = rng.integers(0, len(seen[0].losses), len(seen[0].losses))
        plans = [seen[i] for i in rng.integers(0, len(seen), len(seen))]
        values.append(figure([replace(one, losses=one.losses[images], right=one.right[images]) for one in plans]))
    low, high = np.nanpercentile(values, [2.5, 97.5]).tolist()
    return low, high


def rank_of_losses(seen: list[Seen]) -> float:
    """Spearman's rank correlation of predicted and measured losses; NaN where one of them is constant."""
    return _rank([one.predicted for one in seen], [one.measured for one in seen])


def rank_of_accuracy(seen: list[Seen]) -> float:
    """The same of predicted losses and measured errors."""
    return _rank([one.predicted for one in seen], [1 - float(one.right.mean()) for one in seen])


def _rank(a: list[float], b: list[float]) -> float:
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else math.nan


HEAD = (
    f"| subject | images | plans | measured over predicted: median under {MILD} nats (plans) | range "
    f"| median over {MILD} nats (plans) | range | rank correlation with loss (95 %) | with accuracy (95 %) |\n"
    + "| --- " * 9
    + "|"
)


def row(name: str, seen: list[Seen], seed: int) -> str:
    """One subject: how far predictions are off, of mild and of harsh plans, and how well they rank."""
    cells = [name, str(len(seen[0].losses)), str(len(seen))]
    for some in ([s for s in seen if s.measured < MILD], [s for s in seen if s.measured >= MILD]):
        offs = [one.off for one in some]
        cells += [f"{median(offs):.2f} ({len(offs)})", f"{min(offs):.2f} to {max(offs):.2f}"] if offs else ["-", "-"]
    for figure in (rank_of_losses, rank_of_accuracy):
        low, high = interval(seen, figure, seed)
        cells.append(f"{figure(seen):.3f} ({low:.3f} to {high:.3f})")
    return f"| {' | '.join(cells)} |"


PLANS = "| subject | latency limit | predicted loss | measured | original's accuracy | plan's |\n" + "| --- " * 6 + "|"


def rows_of_plans(name: str, seen: list[Seen], original: float) -> list[str]:
    """Every plan of a subject, in nats and percent, before any training."""
    return [
        f"| {name} | {one.limit:.2f}x | {one.predicted:.3g} | {one.measured:.3g} ± {one.error:.1g} "
        f"| {original:.1f} | {100 * one.right.mean():.1f} |"
        for one in seen
    ]


def measured(state: State, count: int, images: int) -> tuple[list[Seen], float]:
    """The solver's plans on so many validation images, and the original's accuracy on them in percent."""
    space, profile, data = load_plan_space(state), load_profile(state), state.open_data()
    split = held_out_images(state, data, images)
    pixels, labels = next(data.batches(split, len(split)))
    judge = TeacherComparison(space, torch.from_numpy(pixels))
    expected = ExpectedLosses.load(state.product("sensitivity"))
    problem = build_problem(space, profile, expected.losses, {"latency": 1.0})
    plans, seen = solved(problem, space.predict(profile, {})["latency"], count), list[Seen]()
    for limit, solution in plans:
        answers = judge.answers(solution.choice)
        right = answers.argmax(1).numpy() == labels
        seen.append(Seen(limit, expected.of_plan(solution.loss), divergences(answers, judge.teacher), right))
        one = seen[-1]
        click.echo(f"{limit:.3f}x: predicted {one.predicted:.4g}, measured {one.measured:.4g}", err=True)
    return seen, 100 * float((judge.teacher.argmax(1).numpy() == labels).mean())


@click.command()
@click.argument("subjects", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option("--plans", default=16, show_default=True, help="Latency limits, each of which gives a plan.")
@click.option("--images", default=512, show_default=True, help="Held-out images, or all where there are fewer.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/loss_model.md.")
def main(subjects: tuple[Path, ...], folder: Path, plans: int, images: int, write: bool) -> None:
    """Compare predicted with measured losses on SUBJECTS, recipes such as those in benchmarks/subjects."""
    logging.disable(logging.WARNING)
    rows, every = [HEAD], [PLANS]
    for file in subjects:
        try:
            recipe = load_recipe(file)
            state = run_pipeline(recipe, folder, until="sensitivity")
        except ParedownError as error:
            raise click.ClickException(str(error)) from error
        with TemporaryDirectory() as scratch:
            seen, original = measured(replace(state, out=Path(scratch)), plans, images)
        rows.append(row(recipe.name, seen, state.seed))
        every += rows_of_plans(recipe.name, seen, original)
        click.echo(rows[-1], err=True)
    text = "\n".join([*rows, "", *every, ""])
    click.echo(text, nl=False)
    if write:
        (HERE / "results" / "loss_model.md").write_text(f"# Loss model\n\n{text}")


if __name__ == "__main__":
    main()
