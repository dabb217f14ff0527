"""DeepSparse's verbs, for `serve.py` in its sidecar: the standard library, numpy and deepsparse, Python 3.8's syntax.

Times are taken in this process: a request from outside takes longer than a small network.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["NM_DISABLE_ANALYTICS"] = "1"  # else the import reports itself to a server

import deepsparse
import numpy as np
from deepsparse.engine import model_debug_analysis

WARM_UP = 3
BETWEEN = 0.06
"""Seconds between two engines: the threads of the one that ran last spin for a while."""

Shape = Sequence[int]
"""(batch, channels, height, width)"""

ENGINES: dict[tuple[str, int, int], Any] = {}
"""Open engines by (model, threads, batch)."""


def open_engine(model: str, threads: int, batch: int) -> float:
    """Compiles a file anew; gives the share of its operators that DeepSparse computes itself."""
    ENGINES.pop((model, threads, batch), None)
    return float(engine_of(model, threads, batch).fraction_of_supported_ops)


def engine_of(model: str, threads: int, batch: int) -> Any:
    key = (model, threads, batch)
    if key not in ENGINES:
        try:
            ENGINES[key] = deepsparse.Engine(model, batch_size=batch, num_cores=threads)
        except Exception as error:  # the engine's errors share no class of their own
            raise ValueError(one_line(error)) from error
    return ENGINES[key]


def logits(model: str, threads: int, images: str, target: str) -> None:
    """Runs the array in the file `images`, one batch, and leaves the first output in `target`."""
    given = np.load(images)
    np.save(target, execute(engine_of(model, threads, len(given)), [given])[0])


def execute(engine: Any, given: list[Any]) -> Any:
    try:
        return engine.run(given)
    except Exception as error:
        raise ValueError(one_line(error)) from error


def round_in_turns(
    models: Sequence[str],
    shapes: Sequence[Shape],
    threads: int,
    seed: Sequence[int],
    schedule: Sequence[tuple[int, int]],
    other: int,
) -> list[list[float]]:
    """Milliseconds per model of one round; `schedule` lists (index of the model, timed runs) in order. `other` bytes of
    memory are read before every run, by as many threads, so that it finds the caches cold."""
    engines = [engine_of(model, threads, shape[0]) for model, shape in zip(models, shapes)]
    given = [[normal_images(shape, seed)] for shape in shapes]
    for engine, images in zip(engines, given):
        for _ in range(WARM_UP):
            execute(engine, images)
    times: list[list[float]] = [[] for _ in models]
    memory = np.ones(other // 4, np.float32)  # pages of zeros that nobody wrote all lie in the same place
    # One thread computes in the one that asks, and its CPU clock does not count what neighbours take.
    clock = time.thread_time if threads == 1 else time.perf_counter
    gc.disable()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for index, runs in schedule:
                time.sleep(BETWEEN)
                times[index] += timed(engines[index], given[index], runs, clock, lambda: read(memory, threads, pool))
    finally:
        gc.enable()
    return times


def read(memory: Any, threads: int, pool: ThreadPoolExecutor) -> None:
    """Reads all of an array in as many threads; with one it is the calling thread that reads."""
    if threads == 1:
        memory.sum()
    else:
        list(pool.map(lambda _: memory.sum(), range(threads)))


def timed(
    engine: Any, images: list[Any], runs: int, clock: Callable[[], float], before_each: Callable[[], object]
) -> list[float]:
    """Milliseconds of `runs` runs after one that does not count: the caches hold the other model."""
    times = []
    for _ in range(runs + 1):
        before_each()
        start = clock()
        engine.run(images, val_inp=False)
        times.append(1e3 * (clock() - start))
    return times[1:]


def layers(model: str, shape: Shape, threads: int, runs: int) -> list[tuple[str, str, float]]:
    """(kind, values computed, mean ms) of everything that the engine executes, in order."""
    try:
        analysis = model_debug_analysis(
            model,
            [normal_images(shape, 0)],
            batch_size=shape[0],
            num_cores=threads,
            num_iterations=runs,
            num_warmup_iterations=WARM_UP,
        )
    except Exception as error:
        raise ValueError(one_line(error)) from error
    return [(one["name"], one["canonical_name"], one["average_run_time_in_ms"]) for one in analysis["layer_info"]]


def peak(model: str, shape: Shape, threads: int) -> float:
    """MiB of peak resident memory of this process, which should be fresh, after four runs."""
    engine, images = engine_of(model, threads, shape[0]), [normal_images(shape, 0)]
    for _ in range(4):
        execute(engine, images)
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def normal_images(shape: Shape, seed: Any) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


VERBS = {
    "open": open_engine,
    "logits": logits,
    "round": round_in_turns,
    "layers": layers,
    "peak": peak,
}
