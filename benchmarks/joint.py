"""The joint plan against plans made one kind of change at a time, on one subject, at equal latency and training.

Every method sees the same profile, sensitivities and limits, has its plan measured and corrected by the same search,
and trains for as many epochs. At the end all artifacts run in turns, in one process. `joint` against `without blocks`
is what replacing blocks adds.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from quickstart import measure, page

from paredown.models.errors import LimitError, ParedownError
from paredown.pipeline.commands.progress_bars import show_progress
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe, load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.limits import Bound, Limits
from paredown.stages.products.plan import Plan

HERE = Path(__file__).resolve().parent
OTHER = str(HERE / "one_after_the_other.py")
METHODS: dict[str, str | dict[str, dict[str, Any]]] = {
    "joint": "milp",
    "without blocks": {OTHER: {"method": "without_blocks"}},
    "narrow, then quantize": {OTHER: {"method": "narrow_then_quantize"}},
    "uniform, all int8": {OTHER: {"method": "uniform"}},
    "uniform sparsity, all int8": {OTHER: {"method": "uniform_sparsity"}},
    "random search": {"random": {"evaluations": 20000}},
    "quantize only": {OTHER: {"method": "quantize"}},
    "narrow only": {OTHER: {"method": "narrow"}},
}
"""Name to the search's solver."""


@dataclass(frozen=True)
class Method:
    """A way to make a plan, and the subject's recipe with it."""

    name: str
    recipe: Recipe


def methods(recipe: Recipe, wanted: Iterable[str], quantized: float) -> list[Method]:
    """The subject's recipe once per wanted `<method>` or `<method>@<latency limit>`, with that method's solver.

    `quantize only` is held to `quantized` of the original's latency where no limit is named. `narrow only` trains as
    long as the others although it has no int8 phase.
    """
    found = []
    for text in wanted:
        name, _, limit = text.partition("@")
        limit = limit or (f"{quantized}x" if name == "quantize only" else "")
        bound = Bound.model_validate(limit) if limit else recipe.limits.latency_p50
        steps = tuple(_step(step, name) for step in recipe.pipeline)
        named = f"{recipe.name}-{text.replace(',', '').replace(' ', '_').replace('@', '-')}"
        changed = {"name": named, "pipeline": steps, "limits": Limits(latency_p50=bound)}
        found.append(Method(text, recipe.model_copy(update=changed)))
    return found


def possible(recipe: Recipe) -> list[str]:
    """The methods that decide about nothing else than the subject's transforms."""
    profiled = next(step.stage for step in recipe.pipeline if step.name == "profile")
    sparse = "sparsify" in getattr(profiled, "transforms", ())
    if sparse:
        return ["joint", "uniform sparsity, all int8", "quantize only", "random search"]
    return [name for name in METHODS if "sparsity" not in name]


def seeded(recipe: Recipe, seed: int | None) -> Recipe:
    """The recipe under another name where another seed is wanted."""
    if seed is None or seed == recipe.seed:
        return recipe
    return recipe.model_copy(update={"seed": seed, "name": f"{recipe.name}-seed{seed}"})


def _step(step: PipelineStep, method: str) -> PipelineStep:
    stage: Any = step.stage
    if step.name == "search":
        stage = stage.model_copy(update={"solver": METHODS[method], "known": method == "joint"})
    if step.name == "recover" and method == "narrow only":
        epochs = stage.distil.epochs + stage.quantize.epochs
        stage = stage.model_copy(update={"distil": stage.distil.model_copy(update={"epochs": epochs})})
    return step.model_copy(update={"stage": stage})


def finished(found: list[Method], folder: Path) -> tuple[dict[str, State], dict[str, str]]:
    """The states of those that ended with an artifact, and why the others did not.

    All plans are made before any is trained: a machine that has trained for long may time otherwise.
    """
    states, refused = dict[str, State](), dict[str, str]()
    for until in ("search", None):
        for method in (method for method in found if method.name not in refused):
            click.echo(f"{method.name}: {until or 'the rest'}", err=True)
            try:
                with show_progress() as progress:
                    states[method.name] = run_pipeline(method.recipe, folder, until=until, progress=progress)
            except LimitError as error:
                refused[method.name] = str(error)
                states.pop(method.name, None)
                click.echo(f"{method.name}: {error}", err=True)
    return states, refused


def plans(found: Iterable[Method], states: Mapping[str, State], folder: Path) -> str:
    """What was expected of every plan before training, and the seconds that its own stages took."""
    lines = [
        "| method | latency limit | predicted | expected loss, nats | search, s | recover, s |",
        "| --- " * 6 + "|",
    ]
    for method in (method for method in found if method.name in states):
        plan = Plan.load(states[method.name].product("plan"))
        assert plan.baseline and plan.baseline.latency and plan.predicted and plan.predicted.loss is not None
        seconds = json.loads((folder / method.recipe.name / "timings.json").read_text())
        whole = plan.baseline.latency.p50
        numbers = (
            f"{plan.limits['latency'] / whole:.3f}",
            f"{plan.predicted.latency / whole:.3f}",
            f"{plan.predicted.loss:.4f}",
            f"{seconds['search']:.0f}",
            f"{seconds['recover']:.0f}",
        )
        lines.append(f"| {' | '.join((method.name, *numbers))} |")
    return "\n".join(lines)


@click.command()
@click.argument("subject", type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--method", "wanted", multiple=True, help="Only these, also as method@0.3x (default: all that the subject allows)."
)
@click.option("--quantized", default=0.6, show_default=True, help="Latency limit of `quantize only`, as a factor.")
@click.option("--seed", type=int, help="Of everything, the split of the data included (default: the subject's).")
@click.option("--rounds", default=27, show_default=True, help="Fresh sessions of every model.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per session.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/joint-<subject>[-seed<seed>].md.")
def main(
    subject: Path,
    folder: Path,
    wanted: tuple[str, ...],
    quantized: float,
    seed: int | None,
    rounds: int,
    runs: int,
    write: bool,
) -> None:
    """Compare ways to make a plan for SUBJECT, a recipe such as benchmarks/subjects/resnet20_cifar10.yaml."""
    logging.disable(logging.WARNING)
    unknown = [text for text in wanted if text.partition("@")[0] not in METHODS]
    if unknown:
        raise click.ClickException(f"{unknown[0]} is no method; allowed: {', '.join(METHODS)}")
    try:
        recipe = seeded(load_recipe(subject), seed)
        found = methods(recipe, wanted or possible(recipe), quantized)
        states, refused = finished(found, folder)
    except ParedownError as error:
        raise click.ClickException(str(error)) from error
    first = next(iter(states.values()))
    with TemporaryDirectory() as scratch:
        state = replace(first, out=Path(scratch))
        data = state.open_data()
        models = {"original, fp32": first.product("baseline") / "model.onnx"}
        models |= {name: one.product("exported") / "model.onnx" for name, one in states.items()}
        rows = measure(models, state, data, rounds, runs)
        text = page(rows, state, data, rounds, runs)
    text += "\n" + plans(found, states, folder) + "\n"
    text += "".join(f"\n{name}: {why}.\n" for name, why in refused.items())
    click.echo(text, nl=False)
    if write:
        file = HERE / "results" / f"joint-{recipe.name}.md"
        file.write_text(f"# {recipe.name}\n\nWritten by `python benchmarks/joint.py {subject} --write`.\n\n{text}")


if __name__ == "__main__":
    main()
