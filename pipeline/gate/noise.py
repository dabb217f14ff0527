"""What this machine can resolve: a model timed against itself."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from paredown.models.progress import Progress
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.gate.timed import TimedModels, growing_samples
from paredown.stages.measuring.paired_ratio import Interval, PairedRatio
from paredown.stages.measuring.target_runtime import target_runtime

_COLUMNS = ("seconds", "rounds", "p50 ratio", "p50 sees", "p95 ratio", "p95 sees", "two sessions")
_ROW = "{:>8} {:>7} {:>10} {:>9} {:>10} {:>9} {:>13}"


def watch_noise(gates: Gates, model: Path, progress: Progress) -> Iterator[str]:
    """Lines: the machine as a budgets file names it, then one per look at a growing sample until the time is used up.

    `ratio` is of equal things, so all that is not 1 is noise; `sees` is the smallest slowdown that the gate could
    distinguish from none; `two sessions` is the control.
    """
    runtime = target_runtime(gates.target, gates.root)
    yield yaml.safe_dump({"machine": runtime.machine()}, sort_keys=True, width=200).rstrip()
    load = f"{gates.target.threads} threads, {gates.target.caches} caches"
    yield f"# {runtime.version()}, {load}, {100 * gates.confidence:g} % intervals"
    yield _ROW.format(*_COLUMNS)
    for seconds, sample in growing_samples(gates, TimedModels(runtime, model, model), progress):
        yield _ROW.format(f"{seconds:.1f}", sample.rounds, *_cells(sample))


def _cells(sample: PairedRatio) -> Iterator[str]:
    for ratio in (sample.p50, sample.p95):
        yield f"{ratio.value:.4f}"
        yield f"+{100 * smallest_slowdown(ratio):.1f} %"
    yield f"{sample.control.value:.4f}"


def smallest_slowdown(ratio: Interval) -> float:
    """The smallest slowdown, as a share, that an interval of this width keeps apart from none."""
    return ratio.value / ratio.low - 1
