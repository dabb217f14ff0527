"""Measures an ONNX file on the target's runtime: the numbers that every claim rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from paredown.models.data import Data, Split
from paredown.stages.base import State
from paredown.stages.discovery import load
from paredown.stages.evidence import Comparison, Evidence
from paredown.stages.runtimes.base import Runtime, ratio, summarize

MIB = 2**20


def runtime_of(state: State) -> Runtime:
    """The target's runtime."""
    return cast(Runtime, load("runtimes", state.target.runtime, state.root)())


def comparisons(state: State, pair: Sequence[Path], rounds: int, runs: int) -> list[Comparison]:
    """Original and artifact in turns on every further runtime that the recipe names, as many threads and images."""
    target, found = state.target, []
    for name in state.compare:
        runtime = cast(Runtime, load("runtimes", name, state.root)())
        old, new = runtime.latency(pair, target.threads, target.batch, rounds, runs)
        found.append(Comparison(runtime.version(), summarize(old), summarize(new), ratio(new, old)))
    return found


def logits_of(model: Path, data: Data, split: Split, state: State) -> NDArray[np.float32]:
    """(images, classes) of a split, in order."""
    batches = (images for images, _ in data.batches(split, state.target.batch))
    return runtime_of(state).run(model, batches, threads=state.target.threads)


def points(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Accuracy, 0 to 100."""
    return 100 * float((logits.argmax(1) == labels).mean())


def evidence(model: Path, state: State, data: Data, splits: Sequence[str], times: list[list[float]] | None) -> Evidence:
    """Accuracy on the named splits, size, memory and, where `times` (round, run) are given, latency."""
    runtime, target = runtime_of(state), state.target
    named: dict[str, Split] = {name: getattr(data, name) for name in splits}
    return Evidence(
        latency=summarize(times) if times else None,
        size=model.stat().st_size / MIB,
        peak_memory=runtime.peak_memory(model, target.threads, target.batch),
        accuracy={name: points(logits_of(model, data, split, state), split.labels) for name, split in named.items()},
        images={name: len(split) for name, split in named.items()},
        runtime=runtime.version(),
        machine=runtime.machine(),
    )
