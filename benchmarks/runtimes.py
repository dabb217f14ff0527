"""A plan made for one runtime against one made for another, under the same limits, each measured on both.

The recipe runs up to and with its search once per runtime, so nothing is recovered by training; a `fit` stage, which
makes the original, is shared. A limit on peak memory is left out: most of it is the runtimes' own. Both plans are
lowered to ONNX as the search lowers them, and original and plans take turns on one runtime, then on the other, round by
round. Predicted losses are those of the search, before any recovery.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import click
import numpy as np

from paredown.models.errors import ParedownError
from paredown.models.onnx.edit import save_onnx
from paredown.pipeline.commands.progress_bars import show_progress
from paredown.pipeline.recipe.recipe import Recipe, load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.measuring.embedded_facts import written_limits
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space
from paredown.stages.plugins import load_plugin
from paredown.stages.products.plan import Plan
from paredown.stages.runtimes.base import Load, Runtime, latency_ratio, summarize_latency
from paredown.stages.solvers.problem import transform_and_place

RESULTS = Path(__file__).parent / "results" / "runtimes.md"

Times = list[list[list[float]]]
"""Milliseconds per model, round and run."""


@dataclass(frozen=True)
class Planned:
    """What the search chose for one runtime: the plan, its predicted loss in nats, and the plan as ONNX."""

    runtime: str
    choice: Mapping[str, str]
    loss: float
    file: Path


def searched(recipe: Recipe, runtime: str, out: Path) -> State:
    """The state after the recipe's search for `runtime`; its products are kept as those of `<name>-<runtime>`."""
    target = recipe.target.model_copy(update={"runtime": runtime, "compare": ()})
    limits = recipe.limits.model_copy(update={"peak_memory": None})
    changed = {"name": f"{recipe.name}-{runtime}", "target": target, "limits": limits}
    named = recipe.model_copy(update=changed)
    with show_progress() as progress:
        return run_pipeline(named, out, until="search", progress=progress)


def lowered(state: State, folder: Path) -> Planned:
    """The plan of a state as an ONNX file in `folder`."""
    plan, file = Plan.load(state.product("plan")), folder / f"{state.target.runtime}.onnx"
    assert plan.predicted and plan.predicted.loss is not None
    save_onnx(PlanMeter(load_plan_space(state), replace(state, out=folder)).lower(plan.choice), file)
    return Planned(state.target.runtime, plan.choice, plan.predicted.loss, file)


def measure(
    models: list[Path], runtimes: Mapping[str, Runtime], state: State, rounds: int, runs: int
) -> dict[str, Times]:
    """Times on every runtime; the runtimes take turns too, one round each."""
    times: dict[str, Times] = {name: [[] for _ in models] for name in runtimes}
    target = state.target
    for number in range(rounds):
        for name, runtime in runtimes.items():
            found = runtime.latency(models, Load.of(target), 1, runs, seed=number)
            for own, (timed,) in zip(times[name], found, strict=True):
                own.append(timed)
    return times


def table(plans: list[Planned], times: Mapping[str, Times], runtimes: Mapping[str, Runtime]) -> str:
    """A row per model, a column per runtime: p50 as a ratio to the original on the same runtime, and in ms."""
    versions = [f"on {runtimes[name].version()}" for name in times]
    rows = [["model", "predicted loss (nats)", *versions], ["---"] * (2 + len(versions))]
    names = [("original, fp32", "-"), *((f"plan for {plan.runtime}", f"{plan.loss:.4f}") for plan in plans)]
    for index, named in enumerate(names):
        rows.append([*named, *(cell(found[index], found[0]) for found in times.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(own: list[list[float]], original: list[list[float]]) -> str:
    """`0.391x (0.380 to 0.402), 0.46 ms`: the median of the rounds' ratios, their range, and the p50."""
    found = [float(np.median(x) / np.median(y)) for x, y in zip(own, original, strict=True)]
    p50 = summarize_latency(own).p50
    return f"{latency_ratio(own, original):.3f}x ({min(found):.3f} to {max(found):.3f}), {p50:.2f} ms"


def differences(first: Planned, second: Planned) -> str:
    """How many sites the plans treat differently, by kind of change; a site of only one plan counts too."""
    sites = sorted({*first.choice, *second.choice})
    kinds = Counter(transform_and_place(site)[0] for site in sites if first.choice.get(site) != second.choice.get(site))
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
    return f"The plans differ at {kinds.total()} of {len(sites)} sites ({listed})."


def page(plans: list[Planned], times: Mapping[str, Times], runtimes: Mapping[str, Runtime], state: State) -> str:
    """The table, where the plans differ, and how and where it was measured."""
    rounds, batch = next(iter(times.values()))[0], state.target.batch
    machine = ", ".join(f"{name} {value}" for name, value in next(iter(runtimes.values())).machine().items())
    clock = "CPU time of the one thread" if state.target.threads == 1 else "wall clock"
    held = ", ".join(f"{name} {limit}" for name, limit in written_limits(state.limits).items())
    load = f"batch {batch}, {state.target.caches} caches, {clock}"
    how = f"{len(rounds)} rounds x {len(rounds[0])} runs in turns, fresh sessions per round, {load}"
    return f"{table(plans, times, runtimes)}\n\n{differences(*plans)} Limits of both: {held}.\n\n{how}; {machine}.\n"


@click.command()
@click.option("--recipe", default="recipes/quickstart.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all runs.")
@click.option("--runtimes", "names", nargs=2, default=("onnxruntime", "openvino"), show_default=True)
@click.option("--rounds", default=15, show_default=True, help="Fresh sessions of every model and runtime.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per session.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/runtimes.md.")
def main(recipe: Path, out: Path, names: tuple[str, str], rounds: int, runs: int, write: bool) -> None:
    """Compare plans that were made for two runtimes on both of them."""
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as scratch:
        try:
            loaded = load_recipe(recipe)
            runtimes = {name: cast(Runtime, load_plugin("runtimes", name, loaded.root)()) for name in names}
            states = [searched(loaded, name, out) for name in names]
            plans = [lowered(state, Path(scratch)) for state in states]
            models = [states[0].product("baseline") / "model.onnx", *(plan.file for plan in plans)]
            text = page(plans, measure(models, runtimes, states[0], rounds, runs), runtimes, states[0])
        except ParedownError as error:
            raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"# Plans for two runtimes\n\nWritten by `python benchmarks/runtimes.py --write`.\n\n{text}")


if __name__ == "__main__":
    main()
