"""What an artifact says of itself, in the metadata of its ONNX file. Somebody else may have written it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InputSpec:
    """How the model wants its images: pixels scaled to `range`, less `mean`, over `std`, per channel."""

    shape: tuple[int, ...]
    channels: str
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        shape, (low, high) = " x ".join(map(str, self.shape)), self.range
        mean, std = (", ".join(f"{value:g}" for value in one) for one in (self.mean, self.std))
        return f"{shape}, {self.channels} in {low:g}..{high:g}, less {mean}, over {std}"


@dataclass(frozen=True)
class AccuracyRecord:
    """Split to points, of the original and of the artifact, and to its number of images."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    images: Mapping[str, int]


@dataclass(frozen=True)
class EmbeddedFacts:
    """What an artifact was made from and for, how to feed it, and how good it is. A file may lack everything but the
    model: earlier versions said less.

    `plan` maps a transform to its candidates and these to the places where they were chosen.
    """

    model: Mapping[str, str]
    recipe: Mapping[str, str] = field(default_factory=dict)
    input: InputSpec | None = None
    classes: tuple[str, ...] = ()
    plan: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    target: Mapping[str, str | int] = field(default_factory=dict)
    limits: Mapping[str, str | float] = field(default_factory=dict)
    seed: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    accuracy: AccuracyRecord | None = None
    parity: Mapping[str, float] = field(default_factory=dict)
