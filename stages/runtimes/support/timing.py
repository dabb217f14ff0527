"""Times several calls in turns, for runtimes that run in this process, with hot caches or with cold ones."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.support.other_memory import reading_other_memory

TURN = 5
"""Runs in a row with hot caches, so that weights are cached as they are where one model runs alone."""

Between = Callable[[], object]
"""What is done before every run, untimed, so that it finds the caches cold."""


def turns_in_pairs(models: int, runs: int) -> list[tuple[int, int]]:
    """(model, timed runs) in the order ABBA ABBA ..., `runs` per model, at most `TURN` at a time."""
    pairs = max(1, -(-runs // (2 * TURN)))
    share, rest = divmod(runs, 2 * pairs)
    order = [*range(models), *reversed(range(models))] * pairs
    return [(model, share + (place // models < rest)) for place, model in enumerate(order)]


def take_turns(
    calls: Sequence[Callable[[], object]], runs: int, clock: Callable[[], float], between: Between | None = None
) -> list[list[float]]:
    """Milliseconds of `runs` runs per call, so interleaved that a steady drift of the machine cancels.

    With `between`, which empties the caches, the calls change places after every single run.
    """
    if between is not None:
        return _single_turns(calls, runs, clock, between)
    times: list[list[float]] = [[] for _ in calls]
    for index, count in turns_in_pairs(len(calls), runs):
        calls[index]()  # not timed: the caches still hold the other model
        for _ in range(count):
            start = clock()
            calls[index]()
            times[index].append(1e3 * (clock() - start))
    return times


def _single_turns(
    calls: Sequence[Callable[[], object]], runs: int, clock: Callable[[], float], between: Between
) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    forward = range(len(calls))
    for number in range(runs):
        for index in forward if number % 2 == 0 else reversed(forward):
            between()
            start = clock()
            calls[index]()
            times[index].append(1e3 * (clock() - start))
    return times


def rounds_in_turns(
    prepare: Callable[[Path, int], Callable[[], object]], models: Sequence[Path], rounds: int, runs: int, load: Load
) -> list[list[list[float]]]:
    """Milliseconds per model, round and run; `prepare(model, round)` gives a fresh session as a call, warmed up."""
    clock = pick_clock(load.threads)
    times: list[list[list[float]]] = [[] for _ in models]
    with between_runs(load) as between:
        for number in range(rounds):
            calls = [prepare(model, number) for model in models]
            with collector_off():
                timed = take_turns(calls, runs, clock, between)
            for per_model, per_round in zip(times, timed, strict=True):
                per_model.append(per_round)
    return times


def between_runs(load: Load) -> AbstractContextManager[Between | None]:
    """What makes the caches as cold before every run as `load` wants them; None where it wants them hot."""
    return reading_other_memory(load.threads) if load.caches == "cold" else nullcontext()


def repeat(call: Callable[[], object], runs: int, load: Load) -> None:
    """Runs `call` so often, with the caches of `load`: for runtimes that take the times of nodes themselves."""
    with between_runs(load) as between:
        for _ in range(runs):
            if between is not None:
                between()
            call()


def pick_clock(threads: int) -> Callable[[], float]:
    """The calling thread's CPU clock where one thread does all the work, else wall time."""
    # Windows counts a thread's time in steps of 16 ms.
    fine = hasattr(time, "thread_time") and time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if threads == 1 and fine else time.perf_counter


@contextmanager
def collector_off() -> Iterator[None]:
    """Keeps garbage collection out of the timed runs; with torch loaded one collection takes a third of a second."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
