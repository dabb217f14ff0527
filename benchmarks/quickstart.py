"""The quickstart's artifact against its fp32 baseline and plain onnxruntime int8, all in one interleaved run.

The peer is `onnxruntime.quantization.quantize_static` on the same baseline, with the same calibration images: QDQ,
uint8 activations, int8 weights per channel, MinMax. A second peer has 7-bit weights, which do not saturate on x86
without VNNI. Run `paredown run recipes/quickstart.yaml` first.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.quant_utils import QuantFormat, QuantType
from onnxruntime.quantization.quantize import quantize_static

from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError
from paredown.pipeline.recipe.recipe import Recipe, load_recipe
from paredown.stages.base import State
from paredown.stages.measuring.accuracy import accuracy, logits_of
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.runtimes.base import Images, Load, latency_ratio, summarize_latency

RESULTS = Path(__file__).parent / "results" / "quickstart.md"
HEADER = """\
| model | p50 ms | p50 ratio (range over rounds) | p95 ratio | file MiB | file ratio | peak MiB | test accuracy | same answer as fp32 |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""  # noqa: E501  # a row of a Markdown table is one line


@dataclass(frozen=True)
class Row:
    """One model: latencies in ms and as ratios to the baseline, MiB, points, and agreement in %."""

    name: str
    p50: float
    ratios: tuple[float, float, float]
    p95_ratio: float
    size: float
    size_ratio: float
    peak: float
    accuracy: float
    agreement: float

    def markdown(self) -> str:
        middle, low, high = self.ratios
        cells = (
            self.name,
            f"{self.p50:.2f}",
            f"{middle:.3f} ({low:.3f} to {high:.3f})",
            f"{self.p95_ratio:.3f}",
            f"{self.size:.2f}",
            f"{self.size_ratio:.3f}",
            f"{self.peak:.1f}",
            f"{self.accuracy:.2f}",
            f"{self.agreement:.1f} %",
        )
        return f"| {' | '.join(cells)} |"


class Calibration(CalibrationDataReader):
    """The images of the calibration split, in the batches that the model takes."""

    def __init__(self, data: ImageData, batch: int) -> None:
        self.batches = self._whole(data, batch)

    def _whole(self, data: ImageData, batch: int) -> Iterator[Images]:
        return (images for images, _ in data.batches(data.calibration, batch) if len(images) == batch)

    def get_next(self) -> Any:
        """The next batch as the model's inputs; None after the last one."""
        images = next(self.batches, None)
        return None if images is None else {"x": images}


def quantize_plainly(baseline: Path, target: Path, data: ImageData, batch: int, reduce_range: bool) -> Path:
    """What onnxruntime's own tool makes of the baseline; `reduce_range` gives the weights 7 bits.

    `quant_pre_process` would change nothing: the baseline has its batch norms folded and its shapes inferred.
    """
    options: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "reduce_range": reduce_range,
        "calibrate_method": CalibrationMethod.MinMax,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(str(baseline), str(target), Calibration(data, batch), **options)
    return target


def measure(models: Mapping[str, Path], state: State, data: ImageData, rounds: int, runs: int) -> list[Row]:
    """One row per model; the first one is what the others are compared with."""
    runtime, target, files = runtime_of(state), state.target, list(models.values())
    times = runtime.latency(files, Load.of(target), rounds, runs)
    logits = [logits_of(file, data, data.test, state) for file in files]
    base_p95, base_size = summarize_latency(times[0]).p95, files[0].stat().st_size
    return [
        Row(
            name=name,
            p50=summarize_latency(own).p50,
            ratios=(latency_ratio(own, times[0]), *_range(own, times[0])),
            p95_ratio=summarize_latency(own).p95 / base_p95,
            size=file.stat().st_size / 2**20,
            size_ratio=file.stat().st_size / base_size,
            peak=runtime.peak_memory(file, Load.of(target)),
            accuracy=accuracy(answers.argmax(1), data.test.labels),
            agreement=100 * float((answers.argmax(1) == logits[0].argmax(1)).mean()),
        )
        for (name, file), own, answers in zip(models.items(), times, logits, strict=True)
    ]


def _range(a: list[list[float]], b: list[list[float]]) -> tuple[float, float]:
    """The smallest and largest of the rounds' p50 ratios."""
    found = [float(np.median(x) / np.median(y)) for x, y in zip(a, b, strict=True)]
    return min(found), max(found)


def page(rows: list[Row], state: State, data: ImageData, rounds: int, runs: int) -> str:
    """The table and the line that says where and how it was measured."""
    runtime, target = runtime_of(state), state.target
    machine = ", ".join(f"{name} {value}" for name, value in runtime.machine().items())
    clock = "CPU time of the one thread" if target.threads == 1 else "wall clock"
    load = f"batch {target.batch}, {target.caches} caches, {clock}"
    how = f"{rounds} rounds x {runs} runs in turns, fresh sessions per round, {load}"
    table = HEADER + "\n".join(row.markdown() for row in rows)
    return f"{table}\n\n{len(data.test)} test images; {how}; {runtime.version()}; {machine}.\n"


def state_of(recipe: Recipe, folder: Path, out: Path) -> State:
    """The state that the run's last stage saw, with scratch files in `out`."""
    for product in ("baseline", "artifact"):
        file = folder / product / "model.onnx"
        if not file.is_file():
            raise InputError(f"{file} does not exist; run the recipe first: paredown run")
    return State(**recipe.state_fields(), cache=folder.parent / ".cache", out=out)


@click.command()
@click.option("--recipe", default="recipes/quickstart.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--run", "folder", default="runs/quickstart", show_default=True, type=click.Path(path_type=Path))
@click.option("--rounds", default=15, show_default=True, help="Fresh sessions of every model.")
@click.option("--runs", default=20, show_default=True, help="Timed inferences per session.")
@click.option(
    "--reduce-range/--no-reduce-range", default=True, show_default=True, help="Add a peer with 7-bit weights."
)
@click.option("--write", is_flag=True, help="Also write benchmarks/results/quickstart.md.")
def main(recipe: Path, folder: Path, rounds: int, runs: int, reduce_range: bool, write: bool) -> None:
    """Compare the quickstart's artifact with its baseline and with plain onnxruntime int8."""
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as scratch:
        try:
            state = state_of(load_recipe(recipe), folder, Path(scratch))
            data = state.open_data()
        except InputError as error:
            raise click.ClickException(str(error)) from error
        baseline, batch = folder / "baseline" / "model.onnx", state.target.batch
        models = {"original, fp32": baseline, "paredown": folder / "artifact" / "model.onnx"}
        for bits in (8, 7) if reduce_range else (8,):
            file = state.out / f"peer{bits}.onnx"
            name = f"onnxruntime quantize_static, {bits}-bit weights"
            models[name] = quantize_plainly(baseline, file, data, batch, reduce_range=bits == 7)
        text = page(measure(models, state, data, rounds, runs), state, data, rounds, runs)
    click.echo(text, nl=False)
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"# Quickstart\n\nWritten by `python benchmarks/quickstart.py --write`.\n\n{text}")


if __name__ == "__main__":
    main()
