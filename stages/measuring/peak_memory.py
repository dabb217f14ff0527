"""Peak memory of models over fresh processes, in turns, with intervals."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.stages.products.interval import CONFIDENCE, Interval
from paredown.stages.runtimes.base import Load, Runtime

Peaks = NDArray[np.float64]
"""MiB of one model, one per fresh process."""


def processes_for(confidence: float = CONFIDENCE) -> int:
    """How many processes it takes until the least and the most of their peaks hold the median with this confidence.

    All of n lie on one side of the median with 2 / 2^n, whatever the peaks are distributed like; peaks have a few
    values that return, so that a bootstrap of so few would say less.
    """
    return math.ceil(math.log2(2 / (1 - confidence)))


def peaks_in_turns(runtime: Runtime, models: Sequence[Path], load: Load, processes: int) -> list[Peaks]:
    """The peaks of every model, of so many processes each, one after the other and the models in turns."""
    rounds = [[runtime.process_peak(model, load) for model in models] for _ in range(processes)]
    return [np.array(peaks) for peaks in zip(*rounds, strict=True)]


def peak_interval(peaks: Peaks) -> Interval:
    """The median in MiB, and the least and the most that was seen."""
    return Interval(float(np.median(peaks)), float(peaks.min()), float(peaks.max()))


def peak_ratio(old: Peaks, new: Peaks) -> Interval:
    """The new model's median over the old one's, and the least and the greatest ratio of processes that took turns."""
    ratios = new / old
    return Interval(float(np.median(new) / np.median(old)), float(ratios.min()), float(ratios.max()))
