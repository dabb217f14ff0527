"""What a run has left in its folder: its products as data, and why it stopped where it did."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

from paredown.models.errors import InputError, ParedownError
from paredown.models.files import read_json, read_text
from paredown.pipeline.run.runner import REFUSAL
from paredown.stages.products.cost_profile import ProfiledSites
from paredown.stages.products.documents import LONGEST, damage_complaint, parse_dataclass
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.interval import CONFIDENCE
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan
from paredown.stages.products.product_files import PRODUCTS, is_own_file, read_notes, stage_of_product
from paredown.stages.products.replacement_scores import ReplacementScores
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch


class ProductDocument(Protocol):
    """A product's JSON file as a class."""

    FILE: ClassVar[str]

    @classmethod
    def load(cls, folder: Path) -> Self: ...


D = TypeVar("D", bound=ProductDocument)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder as data; a product whose document is not there is None.

    `present` are the products with a folder, `documents` those with a document, by name. `refusals` maps a product to
    the line with which its stage ended the run, `timings` a stage to its seconds; `notes` are lines that a person
    should read.
    """

    name: str
    present: tuple[str, ...]
    documents: tuple[str, ...]
    refusals: Mapping[str, str]
    timings: Mapping[str, float]
    notes: tuple[str, ...]
    fitting: TrainingCurve | None
    baseline: Evidence | None
    library: ReplacementScores | None
    profile: ProfiledSites | None
    sensitivity: ExpectedLosses | None
    plan: Plan | None
    recovery: TrainingCurve | None
    parity: Parity | None
    manifest: Manifest | None

    @property
    def epochs(self) -> tuple[TrainingEpoch, ...]:
        """Of all training phases, one after the other."""
        return tuple(epoch for curve in (self.fitting, self.recovery) if curve for epoch in curve.epochs)

    @property
    def confidence(self) -> float:
        """That of the intervals of the run's measures."""
        return self.manifest.confidence if self.manifest else CONFIDENCE

    def lacks(self, product: str, what: str) -> str:
        """Why the report cannot show `what`; empty where the product's document is there."""
        if product in self.documents:
            return ""
        text = f"No {what}: the stage {stage_of_product(product)} has left no product."
        ended = [stage_of_product(name) for name in self.refusals]
        return f"{text} The run ended in {ended[0]}, for the reason at the top." if ended else text


def read_run_folder(folder: Path) -> RunFolder:
    """Reads `runs/<recipe name>/`; products that are not there are left out. Raises InputError, one line with file and
    field, where somebody changed a document."""
    load = partial(load_product, folder)
    refusals = {name: folder / name / REFUSAL for name in PRODUCTS}
    return RunFolder(
        name=folder.resolve().name,
        present=tuple(name for name in PRODUCTS if (folder / name).is_dir()),
        documents=tuple(name for name, made in PRODUCTS.items() if is_own_file(folder / name / made.document)),
        refusals={name: read_text(file, LONGEST).strip() for name, file in refusals.items() if is_own_file(file)},
        timings=_timings(folder / "timings.json"),
        notes=read_notes(folder),
        fitting=load("original", TrainingCurve),
        baseline=load("baseline", Evidence),
        library=load("library", ReplacementScores),
        profile=load("profile", ProfiledSites),
        sensitivity=load("sensitivity", ExpectedLosses),
        plan=load("plan", Plan),
        recovery=load("recovered", TrainingCurve),
        parity=load("exported", Parity),
        manifest=load("artifact", Manifest),
    )


def load_product(folder: Path, product: str, document: type[D]) -> D | None:
    """A product's document in a run's folder; None where it is not there, or a link."""
    return document.load(folder / product) if is_own_file(folder / product / document.FILE) else None


def _timings(file: Path) -> dict[str, float]:
    return (
        parse_dataclass(dict[str, float], read_json(file, LONGEST), damage_complaint(file)) if is_own_file(file) else {}
    )


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
