"""curves.json: what each epoch of a training came to."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.products.documents import read_document, write_document


@dataclass(frozen=True)
class TrainingEpoch:
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


@dataclass(frozen=True)
class TrainingCurve:
    """The epochs of all phases, one after the other; the file is their list."""

    FILE: ClassVar[str] = "curves.json"

    epochs: tuple[TrainingEpoch, ...]

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self.epochs, indent=2)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(read_document(tuple[TrainingEpoch, ...], folder / cls.FILE))
