"""`manifest.json` of a finished artifact, and what the artifact says of itself. Strangers may have written both."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from paredown.models.errors import InputError
from paredown.models.printable import printable

FILES = ("model.onnx", "model.onnx.gz")


MANIFEST = "manifest.json"


LARGEST_JSON = 64 * 2**20
"""Bytes of a manifest."""


class ForeignData(BaseModel):
    """Data of others in a form that can be relied on; what this version does not know is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


T = TypeVar("T", bound=ForeignData)


class InputSpec(ForeignData):
    """How the model wants its images, see `stages.essentials.fed`."""

    shape: tuple[int, ...]
    channels: str
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        shape, (low, high) = " x ".join(map(str, self.shape)), self.range
        mean, std = (", ".join(f"{value:g}" for value in one) for one in (self.mean, self.std))
        return f"{shape}, {self.channels} in {low:g}..{high:g}, less {mean}, over {std}"


class Accuracy(ForeignData):
    """Split to points, of the original and of the artifact, and to its number of images."""

    before: dict[str, float]
    after: dict[str, float]
    images: dict[str, int]


class EmbeddedFacts(ForeignData):
    """What an artifact says of itself, see `stages.essentials`."""

    model: dict[str, str]
    recipe: dict[str, str] = {}
    input: InputSpec | None = None
    classes: tuple[str, ...] = ()
    plan: dict[str, dict[str, tuple[str, ...]]] = {}
    target: dict[str, str | int] = {}
    limits: dict[str, str | float] = {}
    seed: int | None = None
    data: dict[str, str] = {}
    images: dict[str, int] = {}
    versions: dict[str, str] = {}
    accuracy: Accuracy | None = None
    parity: dict[str, float] = {}


class Check(ForeignData):
    """One measure against its limit, see `stages.verify.Check`."""

    name: str
    unit: str
    before: float | None
    after: float | None
    limit: float | None
    holds: bool | None


class Timed(ForeignData):
    """See `stages.evidence.Latency`."""

    spread: float
    runs: int
    rounds: int


class Measured(ForeignData):
    """The part of `stages.evidence.Evidence` that says on what it was measured."""

    latency: Timed | None = None
    runtime: str
    machine: dict[str, str]


class Manifest(ForeignData):
    """The evidence of a manifest."""

    checks: tuple[Check, ...]
    artifact: Measured
    sha256: dict[str, str]


def parse_foreign(cls: type[T], said: Any, otherwise: str) -> T:
    """`said` as a `cls`; raises InputError that starts with `otherwise` and names the first thing that is wrong."""
    try:
        return cls.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{otherwise} ({printable(place)}: {first['msg']})") from error
