"""What a run has left in its folder: the JSON of every product, and why it stopped where it did."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError, ParedownError
from paredown.models.files import read_text
from paredown.pipeline.run.runner import REFUSAL
from paredown.stages.products.documents import LONGEST
from paredown.stages.products.product_files import PRODUCTS, is_own_file, read_notes, stage_of


@dataclass(frozen=True)
class RunFolder:
    """A run's folder as data; `refusals` maps a product to the line with which its stage ended the run, `notes` are
    lines that a person should read."""

    name: str
    documents: Mapping[str, Any]
    present: tuple[str, ...]
    refusals: Mapping[str, str]
    timings: Mapping[str, float]
    notes: tuple[str, ...] = ()

    def document(self, product: str) -> Any:
        """A product's JSON; an empty mapping where there is none."""
        return self.documents.get(product) or {}

    def lacks(self, product: str, what: str) -> str:
        """Why the report cannot show `what`; empty where the product is there."""
        if product in self.documents:
            return ""
        text = f"No {what}: the stage {stage_of(product)} has left no product."
        ended = [stage_of(name) for name in self.refusals]
        return f"{text} The run ended in {ended[0]}, for the reason at the top." if ended else text


def read_run_folder(folder: Path) -> RunFolder:
    """Reads `runs/<recipe name>/`; products that are not there are left out."""
    present = tuple(name for name in PRODUCTS if (folder / name).is_dir())
    files = {name: folder / name / file for name in present if (file := PRODUCTS[name].document)}
    refusals = {name: folder / name / REFUSAL for name in present}
    timings = folder / "timings.json"
    return RunFolder(
        name=folder.resolve().name,
        documents={name: read_json(file) for name, file in files.items() if is_own_file(file)},
        present=present,
        refusals={name: read_text(file, LONGEST).strip() for name, file in refusals.items() if is_own_file(file)},
        timings=read_json(timings) if is_own_file(timings) else {},
        notes=read_notes(folder),
    )


def read_json(file: Path) -> Any:
    """What a stage wrote as JSON. Raises InputError where it cannot be read: somebody else may have written there."""
    try:
        return json.loads(read_text(file, LONGEST))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged, no JSON that a stage wrote: {error}") from error


@contextmanager
def as_damage(folder: Path) -> Iterator[None]:
    """Around what shows a run's documents: where they are not what stages write, the failure becomes an InputError."""
    try:
        yield
    except (ParedownError, OSError, MemoryError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{folder}: damaged, its documents are not what a run writes ({said})") from error
