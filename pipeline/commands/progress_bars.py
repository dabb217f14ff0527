"""Shows the progress of long work: bars on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from paredown.models.progress import Progress

_EVERY = 5.0
"""Seconds between two lines about the same stage."""


@contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """A `Progress` that draws on `stream` (default: stderr). Its text is `<stage>: <what it does>`."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield PlainLines(stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(file=stream)) as bars:
        yield OneBarPerStage(bars)


@dataclass
class OneBarPerStage:
    """The bar of the stage that runs; bars of finished stages stay above it."""

    bars: Bars
    stage: str = ""
    task: TaskID | None = None
    share: float = 0.0

    def __call__(self, text: str, done: float, total: float) -> None:
        stage, share = text.partition(": ")[0], done / (total or 1)
        if self.task is not None and stage != self.stage:
            self.bars.update(self.task, completed=1, total=1)
            self.task = None
        if self.task is None:
            self.stage, self.task = stage, self.bars.add_task(text, total=total)
        elif share < self.share:  # the next part of the stage: its speed says nothing about this one's
            self.bars.reset(self.task, total=total)
        self.share = share
        self.bars.update(self.task, description=text, completed=done, total=total)


@dataclass
class PlainLines:
    """A plain line when a stage starts or ends, and every few seconds in between."""

    stream: TextIO
    stage: str = ""
    share: float = 0.0
    started: float = 0.0
    printed: float = 0.0

    def __call__(self, text: str, done: float, total: float) -> None:
        now, stage, share = time.monotonic(), text.partition(": ")[0], done / (total or 1)
        starts = stage != self.stage
        if starts or share < self.share:
            self.started = now
        if starts or share >= 1 > self.share or now - self.printed >= _EVERY:
            self.printed = now
            print(f"{text}{_left(share, now - self.started)}", file=self.stream, flush=True)
        self.stage, self.share = stage, share


def _left(share: float, seconds: float) -> str:
    """` 40 %, about 2 min left`; nothing where nothing is known yet."""
    if not 0 < share < 1 or seconds == 0:
        return ""
    left = seconds * (1 - share) / share
    return f" {100 * share:.0f} %, about {f'{left / 60:.0f} min' if left > 90 else f'{left:.0f} s'} left"
