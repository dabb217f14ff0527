"""What this machine can resolve: a model timed against itself."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from paredown.models.progress import Progress
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.gate.timed import Subjects, samples
from paredown.stages.measuring.paired_ratio import Interval, Paired
from paredown.stages.measuring.target import target_runtime

_COLUMNS = ("seconds", "rounds", "p50 ratio", "p50 sees", "p95 ratio", "p95 sees", "two sessions")
_ROW = "{:>8} {:>7} {:>10} {:>9} {:>10} {:>9} {:>13}"


def watch(gates: Gates, model: Path, progress: Progress) -> Iterator[str]:
    """The machine as a budgets file names it, then a line per look at a growing sample until the time is used up.

    `ratio` is of equal things, so all that is not 1 is noise; `sees` is the smallest slowdown that would be told from
    none; `two sessions` is the control.
    """
    runtime = target_runtime(gates.target, gates.root)
    yield yaml.safe_dump({"machine": runtime.machine()}, sort_keys=True, width=200).rstrip()
    yield f"# {runtime.version()}, {gates.target.threads} threads, {100 * gates.confidence:g} % intervals"
    yield _ROW.format(*_COLUMNS)
    for seconds, found in samples(gates, Subjects(runtime, model, model), progress):
        yield _ROW.format(f"{seconds:.1f}", found.rounds, *_cells(found))


def _cells(found: Paired) -> Iterator[str]:
    for one in (found.p50, found.p95):
        yield f"{one.value:.4f}"
        yield f"+{100 * smallest(one):.1f} %"
    yield f"{found.control.value:.4f}"


def smallest(found: Interval) -> float:
    """The smallest slowdown, as a share, that an interval of this width keeps apart from none."""
    return found.value / found.low - 1
