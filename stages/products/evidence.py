"""evidence.json: what was measured of one model, on what, and how; reports, manifests and gates read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.products.documents import read_document, write_document

MIB = 2**20


@dataclass(frozen=True)
class LatencyEvidence:
    """Milliseconds of one inference, from `runs` timed runs in `rounds` interleaved rounds.

    With one thread they are CPU time of the thread that runs it, which neighbours on the machine do not disturb;
    with several threads they are wall-clock time. `spread` is the range of the p50 over the rounds.
    """

    p50: float
    p95: float
    spread: float
    runs: int
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """Original and artifact, timed in turns on one runtime; `ratio` is the artifact's p50 over the original's."""

    runtime: str
    before: LatencyEvidence
    after: LatencyEvidence
    ratio: float


@dataclass(frozen=True)
class AccuracyScores:
    """How often one model is right: `accuracy` maps a split (`validation`, `test`) to points (0 to 100), `images` maps
    it to its number of images."""

    accuracy: Mapping[str, float]
    images: Mapping[str, int]


@dataclass(frozen=True)
class Evidence:
    """One model, measured on the runtime that ships.

    Sizes and memory in MiB; `latency` is None where it was not measured. `accuracy` and `images`: `AccuracyScores`.
    """

    FILE: ClassVar[str] = "evidence.json"

    latency: LatencyEvidence | None
    size: float
    peak_memory: float
    accuracy: Mapping[str, float]
    images: Mapping[str, int]
    runtime: str
    machine: Mapping[str, str]

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=2, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
