"""What an artifact says of itself, in the metadata of its ONNX file. Somebody else may have written it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_NOT_TOLD = "how it is scaled and cropped is not told (earlier versions took the largest centre square, bilinear)"


@dataclass(frozen=True)
class InputSpec:
    """How the model wants its images: made square, pixels scaled to `range`, less `mean`, over `std`, per channel.

    `framing` says in words how an image of any shape becomes the square; `crop_mode`, `crop_pct`, `interpolation`
    and `exif` say it as the recipe does, in the terms of timm. Earlier versions did not tell.
    """

    shape: tuple[int, ...]
    channels: str
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    exif: str | None = None
    framing: str | None = None

    def __str__(self) -> str:
        shape, (low, high) = " x ".join(map(str, self.shape)), self.range
        mean, std = (", ".join(f"{value:g}" for value in one) for one in (self.mean, self.std))
        scaled = "/255" if (low, high) == (0, 1) else f"pixels to {low:g}..{high:g}"
        steps = f"{self.framing or _NOT_TOLD}, {self.channels}, {scaled}, minus mean {mean}, divided by std {std}"
        return f"{shape}, from an image: {steps}"


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
