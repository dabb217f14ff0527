"""manifest.json of a finished artifact: what it was made from and for, its files, and the evidence of how good it is.

It travels with the artifact, so that somebody else may have written it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.stages.products.documents import LEFT_OUT, read_document, write_document
from paredown.stages.products.embedded import InputSpec
from paredown.stages.products.evidence import Comparison, Evidence
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
    """Where the artifact was measured, as the recipe has it."""

    runtime: str
    threads: int = 1
    batch: int = 1
    container: str = "plain"


@dataclass(frozen=True)
class DataRecord:
    """The images: `images` maps a split to their number, `fingerprint` is a digest of their files."""

    classes: tuple[str, ...]
    images: Mapping[str, int]
    licence: str
    source: str = ""
    fingerprint: str = ""


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
    """The artifact over the original; `latency_p50_ends` are the ends of the interval that holds the ratio of p50 99
    times in a hundred."""

    latency_p50: float
    size: float
    peak_memory: float
    latency_p50_ends: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that was measured of the artifact and of the original (`baseline`) beside it, and all that went into it.

    `sha256` are of the files beside it and of `baseline/model.onnx`; `zeros` of each sparse layer the share of zeros.
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
    compare: tuple[Comparison, ...] = ()

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=2, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)

    def shipped(self) -> tuple[str, ...]:
        """The names of the files beside the manifest, without those of the original."""
        return tuple(name for name in self.sha256 if "/" not in name)
