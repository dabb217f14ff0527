"""Measures an original and its artifact: their times in turns, their memory, and the answers that they give."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.dataset import Data, Split
from paredown.models.onnx.edit import load as load_model
from paredown.models.onnx.edit import save
from paredown.stages.base import State
from paredown.stages.measuring.target import runtime_of
from paredown.stages.plugins import make
from paredown.stages.products.evidence import MIB, Comparison, Evidence, Scores
from paredown.stages.runtimes.base import Load, Runtime, ratio, summarize


def comparisons(state: State, pair: Sequence[Path], rounds: int, runs: int) -> list[Comparison]:
    """Original and artifact in turns on every further runtime that the recipe names, as many threads and images.

    `pair` are the portable files.
    """
    found = []
    for name in state.compare:
        runtime: Runtime = make("runtimes", name, {}, state.root)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{place}.onnx" for place in ("original", "artifact")]
            for source, file in zip(pair, files, strict=True):
                save(runtime.lower(load_model(source)), file)
            old, new = runtime.latency(files, Load.of(state.target), rounds, runs)
        found.append(Comparison(runtime.version(), summarize(old), summarize(new), ratio(new, old)))
    return found


def logits_of(model: Path, data: Data, split: Split, state: State) -> NDArray[np.float32]:
    """(images, classes) of a split, in order."""
    batches = (images for images, _ in data.batches(split, state.target.batch))
    return runtime_of(state).run(model, batches, threads=state.target.threads)


def points(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Accuracy, 0 to 100."""
    return 100 * float((logits.argmax(1) == labels).mean())


def scored(model: Path, state: State, data: Data, splits: Sequence[str] = ("validation", "test")) -> Scores:
    """Accuracy on the named splits."""
    named: dict[str, Split] = {name: getattr(data, name) for name in splits}
    return Scores(
        accuracy={name: points(logits_of(model, data, split, state), split.labels) for name, split in named.items()},
        images={name: len(split) for name, split in named.items()},
    )


def evidence(model: Path, state: State, scores: Scores, times: list[list[float]] | None) -> Evidence:
    """Size, memory and, where `times` (round, run) are given, latency, beside its scores."""
    runtime = runtime_of(state)
    return Evidence(
        latency=summarize(times) if times else None,
        size=model.stat().st_size / MIB,
        peak_memory=runtime.peak_memory(model, Load.of(state.target)),
        accuracy=scores.accuracy,
        images=scores.images,
        runtime=runtime.version(),
        machine=runtime.machine(),
    )
