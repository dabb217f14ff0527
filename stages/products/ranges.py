"""ranges.json: the calibrated ranges of the trained network's values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from paredown.models.compression.scales import Range
from paredown.stages.products.documents import read_document, write_document


@dataclass(frozen=True)
class CalibratedRanges:
    """Value to its (low, high), under the names that torch and ONNX share; the file is this mapping."""

    FILE: ClassVar[str] = "ranges.json"

    ranges: Mapping[str, Range]

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self.ranges, indent=1, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(read_document(dict[str, Range], folder / cls.FILE))
