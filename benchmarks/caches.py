"""A plan made for cold caches against one made for hot ones, under the same limits, each measured with both.

The recipe runs up to and with its search once per kind of caches, so nothing is recovered by training; a `fit` stage,
which makes the original, is shared. A limit on latency is a factor of what the original takes with the same caches.
Both plans are lowered to ONNX as the search lowers them, and original and plans take turns with cold caches, then with
hot ones, round by round. Predicted losses are those of the search, before any recovery.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import click
from runtimes import Planned, Times, cell, differences, lowered

from paredown.models.errors import ParedownError
from paredown.pipeline.commands.progress_bars import show_progress
from paredown.pipeline.recipe.recipe import Recipe, load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.base import State
from paredown.stages.limits import Caches
from paredown.stages.measuring.embedded_facts import written_limits
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.runtimes.base import Load, Runtime

RESULTS = Path(__file__).parent / "results" / "caches.md"


def searched(recipe: Recipe, caches: Caches, out: Path) -> State:
    """The state after the recipe's search with these caches; its products are kept as those of `<name>-<caches>`."""
    target = recipe.target.model_copy(update={"caches": caches, "compare": ()})
    limits = recipe.limits.model_copy(update={"peak_memory": None})
    named = recipe.model_copy(update={"name": f"{recipe.name}-{caches}", "target": target, "limits": limits})
    with show_progress() as progress:
        return run_pipeline(named, out, until="search", progress=progress)


def planned(state: State, folder: Path) -> Planned:
    """The plan of a state as an ONNX file in `folder`, under the name of its caches."""
    (own := folder / state.target.caches).mkdir()
    return replace(lowered(state, own), runtime=f"{state.target.caches} caches")


def measure(models: list[Path], runtime: Runtime, state: State, rounds: int, runs: int) -> dict[Caches, Times]:
    """Times with cold and with hot caches, which take turns too, one round each."""
    kinds: tuple[Caches, ...] = get_args(Caches)
    times: dict[Caches, Times] = {caches: [[] for _ in models] for caches in kinds}
    for number in range(rounds):
        for caches in kinds:
            load = replace(Load.of(state.target), caches=caches)
            for own, (timed,) in zip(times[caches], runtime.latency(models, load, 1, runs, seed=number), strict=True):
                own.append(timed)
    return times


def table(plans: list[Planned], times: Mapping[Caches, Times]) -> str:
    """A row per model, a column per kind of caches: p50 as a ratio to the original with the same caches, and in ms."""
    rows = [["model", "predicted loss (nats)", *(f"{caches} caches" for caches in times)], ["---"] * (2 + len(times))]
    names = [("original, fp32", "-"), *((f"plan for {plan.runtime}", f"{plan.loss:.4f}") for plan in plans)]
    for index, named in enumerate(names):
        rows.append([*named, *(cell(found[index], found[0]) for found in times.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(plans: list[Planned], times: Mapping[Caches, Times], runtime: Runtime, state: State) -> str:
    """The table, where the plans differ, and how and where it was measured."""
    rounds, target = next(iter(times.values()))[0], state.target
    machine = ", ".join(f"{name} {value}" for name, value in runtime.machine().items())
    held = ", ".join(f"{name} {limit}" for name, limit in written_limits(state.limits).items())
    how = f"{len(rounds)} rounds x {len(rounds[0])} runs in turns, fresh sessions per round, batch {target.batch}"
    where = f"{runtime.version()}; {machine}"
    return f"{table(plans, times)}\n\n{differences(*plans)} Limits of both: {held}.\n\n{how}; {where}.\n"


@click.command()
@click.option("--recipe", default="recipes/quickstart.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all runs.")
@click.option("--rounds", default=15, show_default=True, help="Fresh sessions of every model and kind of caches.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per session.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/caches.md.")
def main(recipe: Path, out: Path, rounds: int, runs: int, write: bool) -> None:
    """Compare plans that were made for hot and for cold caches with both."""
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as scratch:
        try:
            loaded = load_recipe(recipe)
            states = [searched(loaded, caches, out) for caches in get_args(Caches)]
            plans, runtime = [planned(state, Path(scratch)) for state in states], runtime_of(states[0])
            models = [states[0].product("baseline") / "model.onnx", *(plan.file for plan in plans)]
            text = page(plans, measure(models, runtime, states[0], rounds, runs), runtime, states[0])
        except ParedownError as error:
            raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            f"# Plans for hot and for cold caches\n\nWritten by `python benchmarks/caches.py`.\n\n{text}"
        )


if __name__ == "__main__":
    main()
