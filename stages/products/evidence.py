"""evidence.json: what was measured of one model, on what, and how; reports, manifests and gates read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.limits import Caches
from paredown.stages.products.documents import LEFT_OUT, read_document, write_document
from paredown.stages.products.interval import Ends, Interval

MIB = 2**20


@dataclass(frozen=True)
class LatencyEvidence:
    """Milliseconds of one inference, from `runs` timed runs in `rounds` interleaved rounds.

    With one thread they are CPU time of the thread that runs it, which neighbours on the machine do not disturb;
    with several threads they are wall-clock time. `spread` is the range of the p50 over the rounds; the ends are those
    of the intervals of p50 and p95, of a bootstrap over rounds and runs. Earlier versions had none.
    """

    p50: float
    p95: float
    spread: float
    runs: int
    rounds: int
    p50_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    p95_ends: Ends | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class Comparison:
    """Original and artifact, timed in turns on one runtime with `caches`; `ratio` is the artifact's p50 over the
    original's, with the ends of its interval. Earlier versions had hot caches only."""

    runtime: str
    before: LatencyEvidence
    after: LatencyEvidence
    ratio: float
    ratio_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    caches: Caches = "hot"


@dataclass(frozen=True)
class AccuracyScores:
    """How often one model is right: `accuracy` maps a split (`validation`, `test`) to points (0 to 100), `images` maps
    it to its number of images."""

    accuracy: Mapping[str, float]
    images: Mapping[str, int]


@dataclass(frozen=True)
class AccuracyChange:
    """Original and artifact on the same `images`: the points gained with their interval, how many images only the
    original had right (`lost`), and how many only the artifact (`gained`)."""

    points: Interval
    lost: int
    gained: int
    images: int

    @property
    def discordance_seen(self) -> float:
        """The share (0 to 1) of images on which one of the two is right and the other wrong, with one such image more
        than there were: models that never differed on a few images may differ on the next."""
        return (self.lost + self.gained + 1) / (self.images + 1)


@dataclass(frozen=True)
class Evidence:
    """One model, measured on the runtime that ships.

    Sizes and memory in MiB; `latency` is None where it was not measured. `accuracy` and `images`: `AccuracyScores`.
    The size is exact; the ends are those of the intervals, of peak memory the least and the most of several processes,
    of an accuracy Wilson's. Earlier versions had none.
    """

    FILE: ClassVar[str] = "evidence.json"

    latency: LatencyEvidence | None
    size: float
    peak_memory: float
    accuracy: Mapping[str, float]
    images: Mapping[str, int]
    runtime: str
    machine: Mapping[str, str]
    peak_memory_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    accuracy_ends: Mapping[str, Ends] | None = field(default=None, metadata=LEFT_OUT)

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=2, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
