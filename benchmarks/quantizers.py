"""Sources of int8 against each other on the same fp32 file: our own engine, neural-compressor, onnxruntime's tool.

Nothing is narrowed and nothing is trained after quantization, so the table says what calibration and the choice of fp32
layers alone are worth. All see the same calibration images; neural-compressor also tunes on validation images. Every
other layer is int8. A subject whose files are not there is left out, and the reason said.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from quickstart import measure, page, quantize_plainly
from torch import Tensor

from paredown.models.compression.qdq import quantizable_nodes
from paredown.models.data.dataset import ImageData
from paredown.models.errors import ParedownError
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.export import export_onnx
from paredown.pipeline.commands.progress_bars import show_progress
from paredown.pipeline.recipe.recipe import Recipe, load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages import plugins
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import State
from paredown.stages.engines.base import Engine
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.training.student import LoweredStudent, calibration_batches

HERE = Path(__file__).resolve().parent
SUBJECTS = (HERE / "subjects" / "resnet20_public.yaml", HERE.parent / "recipes" / "quickstart.yaml")
ENGINES = {"own": "paredown", "neural-compressor": "neural-compressor {version}, files by paredown"}


def quantized(engine: Engine, state: State, data: ImageData) -> tuple[Path, str]:
    """The original in int8 as the engine calibrates it, and what its tuning did, in words."""

    def labelled(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        split = data.validation.take(count, state.seed)
        return ((torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in data.batches(split, 32))

    side, images = state.data.image_size, calibration_batches(data)
    network = analyse_network(load_teacher(state, data), (3, side, side))
    model = export_onnx(network.module, network.shape, state.target.batch, network.graph)
    tuned = engine.tune(network, images, labelled)
    int8 = tuple(name for name in quantizable_nodes(model) if name not in tuned.refused)
    lowered = LoweredStudent(network, model, int8, runtime_of(state).weight_bits())
    path = state.out / f"{tuned.decisions['engine']}.onnx"
    save_onnx(lowered.artifact(lowered.ranges(engine, images)), path)
    return path, _told(tuned.decisions)


def _told(told: Any) -> str:
    if "trials" not in told:
        return ""
    tried = ", ".join(f"{100 * one['top1']:.2f} % with {one['fp32']} layers in fp32" for one in told["trials"])
    left = ", ".join(told["fp32"]) or "none"
    return (
        f"{told['engine']}'s tuning, top-1 on {told['images']} validation images: "
        f"original {100 * told['original_top1']:.2f} %, {tried}. Left in fp32: {left}."
    )


def compared(recipe: Recipe, folder: Path, rounds: int, runs: int) -> str:
    """The table of a subject; its original is fitted and exported first where that was not done yet."""
    with show_progress() as progress, TemporaryDirectory() as scratch:
        state = replace(run_pipeline(recipe, folder, until="baseline", progress=progress), out=Path(scratch))
        data = state.open_data()
        models, notes = {"original, fp32": state.product("baseline") / "model.onnx"}, []
        for name, title in ENGINES.items():
            if line := plugins.missing_requirement("engines", name):
                notes.append(f"Left out: {line}.")
                continue
            engine: Engine = plugins.load_plugin("engines", name)()
            models[title.format(version="" if name == "own" else version(name))], note = quantized(engine, state, data)
            notes.append(note)
        bits = runtime_of(state).weight_bits()
        peer = f"onnxruntime quantize_static, {bits}-bit weights"
        target = state.out / "peer.onnx"
        models[peer] = quantize_plainly(models["original, fp32"], target, data, state.target.batch, bits == 7)
        text = page(measure(models, state, data, rounds, runs), state, data, rounds, runs)
    return "\n\n".join([f"## {recipe.name}", text.strip(), *filter(None, notes)])


@click.command()
@click.argument("subjects", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option("--rounds", default=27, show_default=True, help="Fresh sessions of every model.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per session.")
@click.option("--write", is_flag=True, help="Also write benchmarks/results/quantizers.md.")
def main(subjects: tuple[Path, ...], folder: Path, rounds: int, runs: int, write: bool) -> None:
    """Compare what makes int8 of the originals of SUBJECTS, recipes (default: ResNet-20's and the quickstart's)."""
    logging.disable(logging.WARNING)
    parts = []
    for file in subjects or SUBJECTS:
        try:
            parts.append(compared(load_recipe(file), folder, rounds, runs))
        except (ParedownError, FileNotFoundError) as error:
            click.echo(f"{file} left out: {error}", err=True)
    text = "\n\n".join(parts) + "\n"
    click.echo(text, nl=False)
    if write:
        body = f"# Sources of int8\n\nWritten by `python benchmarks/quantizers.py --write`.\n\n{text}"
        (HERE / "results" / "quantizers.md").write_text(body)


if __name__ == "__main__":
    main()
