"""Where long work says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Where long work says how far it is; the command line draws a bar with the time left."""

    def __call__(self, text: str, done: float, total: float) -> None: ...


def silent_progress(text: str, done: float, total: float) -> None:
    """A `Progress` that shows nothing."""
