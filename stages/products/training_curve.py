"""What one epoch of training came to; `curves.json` has one per epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """A point of the training curves; accuracy in points on the validation split.

    The last four say what decides the last bits of the weights: the precision, and what sums were divided among.
    """

    phase: str
    epoch: int
    loss: float
    accuracy: float
    seconds: float
    bf16: bool = False
    device: str = "cpu"
    threads: int = 1
    processes: int = 1
