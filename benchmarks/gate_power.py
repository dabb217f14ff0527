"""How often the gate is right, on a quiet and on a busy machine: equal models that it passes, planted faults it finds.

The subject is torchvision's MobileNetV2 in int8 at 128 pixels, its weights drawn at random, as only times and bytes
count. Every verdict is written to `--out` at once: the same command goes on after a cut.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from fatten import fattened
from load import busy
from onnx import ModelProto

from paredown.models.compression.fake_quant import observe_ranges
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes, quantized_values
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import load_onnx, save_onnx, weighted_nodes
from paredown.models.onnx.export import export_onnx
from paredown.models.onnx.facts import model_facts
from paredown.models.progress import silent_progress
from paredown.pipeline.gate.budgets import Budgets, Gates
from paredown.pipeline.gate.gate import GateRequest, run_gate
from paredown.stages.limits import Target
from paredown.stages.measuring.paired_ratio import Interval, PairedRatio, rounds_of
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

SHAPE = (3, 128, 128)
SLOWDOWN = 1.10
BYTES, FALLBACK = "5 % more bytes", "one operator in fp32"


def subjects(folder: Path, count: int) -> None:
    """Writes `model.onnx`, an equal `same.onnx`, a `slow.onnx`, and what static gates found, once."""
    quiet_torchvision()
    from torchvision.models.mobilenetv2 import mobilenet_v2

    torch.manual_seed(0)
    module = fold_batch_norm(mobilenet_v2(num_classes=10).eval(), SHAPE)
    model = export_onnx(module, SHAPE)
    names = quantizable_nodes(model)
    values = set(quantized_values(model, names).values())
    ranges = observe_ranges(analyse_network(module, SHAPE).graph, [torch.randn(8, *SHAPE)], values)
    for name in ("model", "same"):
        save_onnx(insert_qdq(model, names, ranges, 8), folder / f"{name}.onnx")
    layers = [name for name, _ in weighted_nodes(model)]  # an addition between int8 layers is int8 in any case
    found = static_gates(
        folder / "model.onnx",
        count,
        lambda layer: insert_qdq(model, [name for name in names if name != layer], ranges, 8),
        layers,
    )
    (folder / "static.json").write_text(json.dumps({fault: f"{times} of {count}" for fault, times in found.items()}))
    slowed(folder / "model.onnx", folder).rename(folder / "slow.onnx")  # last: its being there means that all is


def slowed(model: Path, folder: Path) -> Path:
    """The model with a branch that makes it as close to a tenth slower as any of few widths does, measured now."""
    options = {channels: folder / f"slow-{channels}.onnx" for channels in (16, 20, 24, 28, 32, 40, 48, 64)}
    for channels, path in options.items():
        save_onnx(fattened(load_onnx(model), 1, channels), path)
    ratios = {path: true_ratio(model, path, 40).value for path in options.values()}
    return min(ratios, key=lambda path: abs(ratios[path] - SLOWDOWN))


def true_ratio(old: Path, new: Path, rounds: int) -> Interval:
    """From one long comparison."""
    return PairedRatio.of_rounds(list(islice(rounds_of(OnnxRuntime(), old, new, Load(1, 1)), rounds)), 0.99).p50


def timed_gates(old: Path, new: Path, threads: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Endless gates on latency alone, each with other seeds."""
    budgets, number = Budgets.model_validate({"latency_p50": "1.05x"}), 0
    while True:
        gates = Gates(target=Target(threads=threads), budgets=budgets, seconds=seconds, seed=1000 * number)
        outcome = run_gate(GateRequest(new, old, gates), silent_progress)
        (check,) = outcome.checks
        yield {"verdict": check.verdict, "seconds": outcome.seconds, "ratio": check.ratio, "because": check.because}
        number += 1


def static_gates(
    model: Path, count: int, left_in_float: Callable[[str], ModelProto], names: list[str]
) -> dict[str, int]:
    """How many planted faults of either kind were found: 5 % more bytes somewhere, one unit in fp32."""
    rng, facts, found = np.random.default_rng(0), model_facts(model), {BYTES: 0, FALLBACK: 0}
    planted = model.with_name("planted.onnx")
    for unit in rng.permutation(np.resize(names, count)):
        layers = int(rng.integers(1, 4))
        save_onnx(grown_by(load_onnx(model), 0.05 * facts.bytes, layers), planted)
        found[BYTES] += failed(planted, model, {"bytes": "1.02x"})
        save_onnx(left_in_float(str(unit)), planted)
        found[FALLBACK] += failed(planted, model, {"unquantized": "1.0x"})
    return found


def grown_by(model: ModelProto, more: float, layers: int) -> ModelProto:
    """With useless layers of the fewest channels that add so many bytes."""
    channels = next(c for c in range(1, 4096) if 4 * (27 * c + (layers - 1) * 9 * c * c + 10 * c) >= more)
    return fattened(model, layers, channels)


def failed(model: Path, baseline: Path, budgets: Mapping[str, str]) -> bool:
    """Whether the gate fails it, and says which layer it was."""
    outcome = run_gate(
        GateRequest(model, baseline, Gates(budgets=Budgets.model_validate(budgets)), static=True), silent_progress
    )
    return outcome.verdict == "fail" and all(check.layers for check in outcome.checks)


def collect(file: Path, count: int, gates: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first `count` results; those that the file has are not made again."""
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with file.open("a") as stream:
        for result in islice(gates, max(0, count - len(done))):
            stream.write(json.dumps(result) + "\n")
            stream.flush()
            done.append(result)
            click.echo(f"{file.stem} {len(done)}/{count}: {result['verdict']}, {result['seconds']:.0f} s", err=True)
    return done[:count]


def row(name: str, load_: str, results: list[dict[str, Any]]) -> str:
    verdicts = [result["verdict"] for result in results]
    counts = " | ".join(str(verdicts.count(verdict)) for verdict in ("pass", "fail", "inconclusive"))
    seconds = [result["seconds"] for result in results]
    return f"| {name} | {load_} | {len(results)} | {counts} | {np.median(seconds):.0f} | {max(seconds):.0f} |"


@click.command()
@click.option("--out", default="runs/gate_power", show_default=True, type=click.Path(path_type=Path))
@click.option("--count", default=60, show_default=True, help="Gates of each kind.")
@click.option("--load", "processes", default=0, show_default=True, help="Busy processes beside every gate.")
@click.option("--threads", default=1, show_default=True, help="Of one inference.")
@click.option("--seconds", default=45.0, show_default=True, help="The longest that a gate measures.")
def main(out: Path, count: int, processes: int, threads: int, seconds: float) -> None:
    """Print a Markdown table of verdicts."""
    out.mkdir(parents=True, exist_ok=True)
    model, same, slow_model = (out / f"{name}.onnx" for name in ("model", "same", "slow"))
    if not slow_model.exists():
        subjects(out, count)
    label = f"{threads}-{processes}"
    with busy(processes) if processes else nullcontext():
        equal = collect(out / f"equal-{label}.jsonl", count, timed_gates(model, same, threads, seconds))
        slow = collect(out / f"slow-{label}.jsonl", count, timed_gates(model, slow_model, threads, seconds))
    runtime = OnnxRuntime()
    beside = f"{processes} busy processes" if processes else "nothing"
    click.echo(
        f"{runtime.version()}, {runtime.machine()['cpu']}, {runtime.machine()['cores']} cores, {threads} threads\n"
    )
    click.echo("| model | beside it | gates | pass | fail | inconclusive | median s | longest s |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    click.echo(row("equal", beside, equal))
    truth = true_ratio(model, slow_model, 100)
    click.echo(row(f"{truth.value:.3f}x ({truth.low:.3f} to {truth.high:.3f})", beside, slow))
    for fault, found in json.loads((out / "static.json").read_text()).items():
        click.echo(f"\n{fault}: found {found} times")


if __name__ == "__main__":
    main()
