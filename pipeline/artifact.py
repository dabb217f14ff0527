"""What an ONNX file and the manifest beside it say. Strangers may have made both: nothing is taken on trust."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from paredown.models.files import digest_file, read_json
from paredown.models.spec import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

FILES = ("model.onnx", "model.onnx.gz")
MANIFEST = "manifest.json"
LARGEST_JSON = 64 * 2**20
"""Bytes of a manifest."""


class Told(BaseModel):
    """Data of others in a form that can be relied on; what this version does not know is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


T = TypeVar("T", bound=Told)


class Fed(Told):
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


class Accuracy(Told):
    """Split to points, of the original and of the artifact, and to its number of images."""

    before: dict[str, float]
    after: dict[str, float]
    images: dict[str, int]


class Essentials(Told):
    """What an artifact says of itself, see `stages.essentials`."""

    model: dict[str, str]
    recipe: dict[str, str] = {}
    input: Fed | None = None
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


class Check(Told):
    """One measure against its limit, see `stages.verify.Check`."""

    name: str
    unit: str
    before: float | None
    after: float | None
    limit: float | None
    holds: bool | None


class Timed(Told):
    """See `stages.evidence.Latency`."""

    spread: float
    runs: int
    rounds: int


class Measured(Told):
    """The part of `stages.evidence.Evidence` that says on what it was measured."""

    latency: Timed | None = None
    runtime: str
    machine: dict[str, str]


class Manifest(Told):
    """The evidence of a manifest."""

    checks: tuple[Check, ...]
    artifact: Measured
    sha256: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A file and what is said of it; `essentials` is None for models that paredown did not make, `manifest` where there
    is none that describes this very file. `warnings` are lines for people."""

    file: Path
    sha256: str
    model: "ModelProto"
    essentials: Essentials | None
    manifest: Manifest | None
    warnings: tuple[str, ...] = ()


def read_artifact(path: Path) -> Artifact:
    """Reads an ONNX file, `.gz` or not, or the one in an artifact's or a run's folder.

    Raises InputError, one line, for what is no such file.
    """
    from paredown.models.metadata import embedded

    file = find(path)
    model = opened(file)
    said = embedded(model)
    essentials = told(Essentials, said, f"{file}: what it says of itself was not written by paredown") if said else None
    digest = digest_file(file)
    manifest, warnings = beside(file, digest)
    return Artifact(file, digest, model, essentials, manifest, warnings)


def find(path: Path) -> Path:
    """The model that `path` means: a file, or a folder that holds an artifact or has one in `artifact/`."""
    if not path.is_dir():
        return path
    for folder in (path, path / "artifact"):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    raise InputError(f"{path}: no artifact in it; looked for {' and '.join(FILES)}, also in artifact/")


def opened(file: Path) -> "ModelProto":
    """The model as data; nothing of it is run. Raises InputError where it is none, or larger than a model can be."""
    from paredown.models.onnx_file import content, parsed
    from paredown.models.onnx_wire import RefusedError

    try:
        return parsed(content(file))
    except RefusedError as error:
        raise InputError(f"{file}: {error}") from error


def beside(file: Path, digest: str) -> tuple[Manifest | None, tuple[str, ...]]:
    """The manifest beside a file where it describes that very file, or why it is not used."""
    path = file.parent / MANIFEST
    if not path.is_file():
        return None, ()
    try:
        manifest = told(Manifest, read_json(path, LARGEST_JSON), f"{path}: no manifest of paredown")
    except InputError as error:
        return None, (str(error),)
    if digest not in (value for name, value in manifest.sha256.items() if "/" not in name):
        return None, (f"{path} describes another file: none of its digests is that of {file.name}",)
    return manifest, ()


def told(cls: type[T], said: Any, otherwise: str) -> T:
    """`said` as a `cls`; raises InputError that starts with `otherwise` and names the first thing that is wrong."""
    try:
        return cls.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{otherwise} ({printable(place)}: {first['msg']})") from error


def printable(text: str) -> str:
    """Without what would command a terminal, on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
