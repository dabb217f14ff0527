"""manifest.json of a finished artifact: what it was made from and for, its files, and the evidence of how good it is.

It travels with the artifact, so that somebody else may have written it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.stages.limits import Caches
from paredown.stages.products.documents import LEFT_OUT, read_document, write_document
from paredown.stages.products.embedded import InputSpec
from paredown.stages.products.evidence import AccuracyChange, Comparison, Evidence
from paredown.stages.products.interval import CONFIDENCE, Ends, Interval
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.parity import Parity

FILES = ("model.onnx", "model.onnx.gz")


@dataclass(frozen=True)
class ModelOrigin:
    """The original, as the recipe names it."""

    source: str
    weights: str | None = None
    sha256: str | None = None
    output: str | int | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class TargetRecord:
    """Where and how the artifact was measured, as the recipe has it; before there was a choice `caches` were hot."""

    runtime: str
    threads: int = 1
    batch: int = 1
    container: str = "plain"
    caches: Caches = "hot"


@dataclass(frozen=True)
class DataRecord:
    """The images: `images` maps a split to their number, `fingerprint` is a digest of their files, `spec` is what the
    recipe says of them."""

    classes: tuple[str, ...]
    images: Mapping[str, int]
    licence: str
    source: str = ""
    fingerprint: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputRecord:
    """The artifact's one output, which holds one logit for each class in the order of `data.classes`: its name, element
    type and shape (images, classes)."""

    name: str
    type: str
    shape: tuple[int | str, ...] | None = None

    def __str__(self) -> str:
        shape = f", {' x '.join(map(str, self.shape))}" if self.shape else ""
        return f"{self.name} ({self.type}{shape})"


@dataclass(frozen=True)
class MeasureRatios:
    """The artifact over the original, with the ends of the intervals; the size is exact. Earlier versions had only
    those of p50."""

    latency_p50: float
    size: float
    peak_memory: float
    latency_p50_ends: Ends | None = None
    latency_p95: float | None = field(default=None, metadata=LEFT_OUT)
    latency_p95_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    peak_memory_ends: Ends | None = field(default=None, metadata=LEFT_OUT)

    @property
    def p50(self) -> Interval | None:
        return _interval(self.latency_p50, self.latency_p50_ends)

    @property
    def p95(self) -> Interval | None:
        return _interval(self.latency_p95, self.latency_p95_ends)

    @property
    def memory(self) -> Interval | None:
        return _interval(self.peak_memory, self.peak_memory_ends)


def _interval(value: float | None, ends: Ends | None) -> Interval | None:
    return None if value is None or ends is None else Interval(value, *ends)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that was measured of the artifact and of the original (`baseline`) beside it, and all that went into it.

    `sha256` are of the files beside it and of `baseline/model.onnx`; `zeros` of each sparse layer the share of zeros.
    `confidence` is that of all intervals; `accuracy_change` maps a split to how original and artifact differ there.
    `other_caches` are the latencies with hot caches where those of the target are cold, and the other way round.
    What has a default is not in every manifest of an earlier version.
    """

    FILE: ClassVar[str] = "manifest.json"

    paredown: str
    recipe: Mapping[str, str] = field(default_factory=dict)
    model: ModelOrigin
    data: DataRecord
    input: InputSpec | None = None
    output: OutputRecord | None = field(default=None, metadata=LEFT_OUT)
    target: TargetRecord
    limits: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    plan: Mapping[str, str] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    zeros: Mapping[str, float] = field(default_factory=dict)
    sha256: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[MeasureCheck, ...]
    baseline: Evidence
    artifact: Evidence
    ratios: MeasureRatios
    parity: Parity
    confidence: float = CONFIDENCE
    accuracy_change: Mapping[str, AccuracyChange] = field(default_factory=dict)
    compare: tuple[Comparison, ...] = ()
    other_caches: Comparison | None = field(default=None, metadata=LEFT_OUT)

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=2, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)

    def shipped(self) -> tuple[str, ...]:
        """The names of the files beside the manifest, without those of the original."""
        return tuple(name for name in self.sha256 if "/" not in name)
