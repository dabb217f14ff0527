"""What an ONNX file and the manifest beside it say. Anybody may have made both: every value is checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paredown.models.errors import InputError
from paredown.models.files import digest_file, read_json
from paredown.stages.products.documents import LONGEST, parse_dataclass
from paredown.stages.products.embedded import EmbeddedFacts
from paredown.stages.products.manifest import FILES, Manifest

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Artifact:
    """A model's file, its digest, and what paredown wrote of it: `facts` stand in the file and are None for models that
    paredown did not make, `manifest` is None where there is none that describes this very file. `warnings` are lines
    for people."""

    file: Path
    sha256: str
    model: "ModelProto"
    facts: EmbeddedFacts | None
    manifest: Manifest | None
    warnings: tuple[str, ...] = ()


def read_artifact(path: Path) -> Artifact:
    """Reads an ONNX file, `.gz` or not, or the one in an artifact's or a run's folder.

    Raises InputError, one line, for what is no such file.
    """
    from paredown.models.onnx.metadata import embedded_metadata

    file = find_model_file(path)
    model = opened_model(file)
    metadata, complaint = embedded_metadata(model), f"{file}: what it says of itself was not written by paredown"
    facts = parse_dataclass(EmbeddedFacts, metadata, complaint) if metadata else None
    digest = digest_file(file)
    manifest, warnings = manifest_beside(file, digest)
    return Artifact(file, digest, model, facts, manifest, warnings)


def find_model_file(path: Path) -> Path:
    """The model that `path` means: a file, or a folder that holds an artifact or has one in `artifact/`."""
    if not path.is_dir():
        return path
    for folder in (path, path / "artifact"):
        if file := model_in(folder):
            return file
    raise InputError(f"{path}: no artifact in it; looked for {' and '.join(FILES)}, also in artifact/")


def model_in(folder: Path) -> Path | None:
    """The artifact's file in a folder: `model.onnx`, or the packed one where only that is there; None without any."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def opened_model(file: Path) -> "ModelProto":
    """The model as data; nothing of it is run. Raises InputError where it is none, or larger than a model can be."""
    from paredown.models.onnx.checked_file import parse_model, read_content
    from paredown.models.onnx.wire import RefusedError

    try:
        return parse_model(read_content(file))
    except RefusedError as error:
        raise InputError(f"{file}: {error}") from error


def manifest_beside(file: Path, digest: str) -> tuple[Manifest | None, tuple[str, ...]]:
    """The manifest beside a file where it describes that very file, or why it is not used."""
    path = file.parent / Manifest.FILE
    if not path.is_file():
        return None, ()
    try:
        manifest = parse_dataclass(Manifest, read_json(path, LONGEST), f"{path}: no manifest of paredown")
    except InputError as error:
        return None, (str(error),)
    if digest not in [manifest.sha256[name] for name in manifest.shipped()]:
        return None, (f"{path} describes another file: none of its digests is that of {file.name}",)
    return manifest, ()
