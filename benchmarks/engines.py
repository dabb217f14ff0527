"""A finished sparse artifact on DeepSparse against itself and its original on onnxruntime, in one interleaved run.

The recipe is run to its end first. Original (fp32, dense), the original with all layers in int8 (dense, not trained),
and the artifact are given to both engines, each in the form that it takes. The engines take turns, one round each, and
within a round their models do. With several threads all times are wall clock; nothing else should run on the machine.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import click
import numpy as np
from runtimes import Times, measure

from paredown.models.data.dataset import ImageData
from paredown.models.errors import ParedownError
from paredown.models.onnx.edit import load_onnx as load_model
from paredown.models.onnx.edit import save_onnx
from paredown.pipeline.commands.progress_bars import show_progress
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.base import State
from paredown.stages.measuring.accuracy import accuracy
from paredown.stages.measuring.model_files import portable_model
from paredown.stages.plugins import load_plugin
from paredown.stages.products.plan import Plan
from paredown.stages.runtimes.base import Runtime, latency_ratio, summarize_latency
from paredown.stages.transforms.quantize import Quantize

ENGINES = ("deepsparse", "onnxruntime")
MODELS = ("original, fp32", "original, all int8", "artifact")
RESULTS = Path(__file__).parent / "results"


def files_of(state: State, runtimes: Mapping[str, Runtime], folder: Path) -> dict[str, list[Path]]:
    """The three models in the form of every engine."""
    subject, quantize = load_prepared_model(state), Quantize()
    (int8,) = quantize.uniform(subject)
    baseline, artifact = (load_model(portable_model(state.product(name))) for name in ("baseline", "artifact"))
    models = (baseline, quantize.lower(subject, int8, baseline), artifact)
    found: dict[str, list[Path]] = {}
    for name, runtime in runtimes.items():
        found[name] = [folder / f"{name}-{index}.onnx" for index in range(len(models))]
        for model, file in zip(models, found[name], strict=True):
            save_onnx(runtime.lower(model), file)
    return found


def in_turns(
    files: Mapping[str, list[Path]], runtimes: Mapping[str, Runtime], state: State, rounds: int, runs: int
) -> dict[str, Times]:
    """Times of every engine's models; the engines take turns, one round each."""
    times: dict[str, Times] = {name: [[] for _ in MODELS] for name in runtimes}
    for _ in range(rounds):
        for name, runtime in runtimes.items():
            once = measure(files[name], {name: runtime}, state, 1, runs)[name]
            for own, timed in zip(times[name], once, strict=True):
                own += timed
    return times


def table(times: Mapping[str, Times], accuracy: Mapping[str, list[float]]) -> str:
    """A row per engine and model."""
    base = times[ENGINES[0]][0]
    rows = ["| engine | model | p50 (ms) | of DeepSparse fp32 (range over rounds) | test accuracy (%) |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for engine in ENGINES:
        for name, own, right in zip(MODELS, times[engine], accuracy[engine], strict=True):
            found = [float(np.median(x) / np.median(y)) for x, y in zip(own, base, strict=True)]
            share = f"{latency_ratio(own, base):.3f}x ({min(found):.3f} to {max(found):.3f})"
            rows.append(f"| {engine} | {name} | {summarize_latency(own).p50:.2f} | {share} | {right:.2f} |")
    return "\n".join(rows)


def answers(files: list[Path], runtime: Runtime, data: ImageData, state: State) -> list[float]:
    """Test accuracy of every model, in points."""
    batches = [images for images, _ in data.batches(data.test, state.target.batch)]
    return [accuracy(runtime.run(file, batches, state.target.threads).argmax(1), data.test.labels) for file in files]


def plan(state: State) -> str:
    """What the search made of every layer with weights."""
    rows = ["| layer | precision | zeros |", "| --- | --- | --- |"]
    for layer in Plan.load(state.product("plan")).layers:
        if layer.op != "add":
            zeros = f"{100 * layer.sparsity:.3g} % ({layer.pattern})" if layer.sparsity else "dense"
            rows.append(f"| {layer.name} | {'int8' if layer.bits == 8 else 'fp32'} | {zeros} |")
    return "\n".join(rows)


@click.command()
@click.option("--recipe", default="recipes/resnet_deepsparse.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all runs.")
@click.option("--threads", default=(2, 1), multiple=True, show_default=True, help="One table for each.")
@click.option("--rounds", default=27, show_default=True, help="Rounds of every engine.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per round.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/engines.md.")
def main(recipe: Path, out: Path, threads: tuple[int, ...], rounds: int, runs: int, write: bool) -> None:
    """Run a recipe for DeepSparse and compare its artifact on DeepSparse and onnxruntime."""
    logging.disable(logging.WARNING)
    try:
        loaded = load_recipe(recipe)
        runtimes = {name: cast(Runtime, load_plugin("runtimes", name)()) for name in ENGINES}
        with show_progress() as progress:
            state = run_pipeline(loaded, out, progress=progress)
        text = "\n".join(_part(state, runtimes, count, rounds, runs) for count in threads) + f"\n{plan(state)}\n"
    except ParedownError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
    if write:
        made = f"# {loaded.name}\n\nWritten by `python benchmarks/engines.py --write`.\n\n"
        (RESULTS / "engines.md").write_text(made + text)


def _part(state: State, runtimes: Mapping[str, Runtime], threads: int, rounds: int, runs: int) -> str:
    """The table for so many threads, and how it was measured."""
    state = replace(state, target=state.target.model_copy(update={"threads": threads}))
    data = state.open_data()
    with TemporaryDirectory() as folder:
        files = files_of(state, runtimes, Path(folder))
        accuracy = {name: answers(files[name], runtime, data, state) for name, runtime in runtimes.items()}
        times = in_turns(files, runtimes, state, rounds, runs)
    versions = " and ".join(runtime.version() for runtime in runtimes.values())
    machine = ", ".join(f"{name} {value}" for name, value in runtimes[ENGINES[1]].machine().items())
    how = f"{threads} thread{'s' if threads > 1 else ''}, {rounds} rounds x {runs} runs, batch {state.target.batch}"
    how += f", {state.target.caches} caches"
    return f"{table(times, accuracy)}\n\n{how}; {len(data.test)} test images; {versions}; {machine}.\n"


if __name__ == "__main__":
    main()
