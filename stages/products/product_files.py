"""The products of a run: their names, their stages, their files, and the lines in them that people should read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.models.files import read_text
from paredown.stages.products.calibration import Calibration
from paredown.stages.products.cost_profile import ProfiledSites
from paredown.stages.products.documents import LONGEST
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.products.replacement_scores import ReplacementScores
from paredown.stages.products.training_curve import TrainingCurve


@dataclass(frozen=True)
class ProductFiles:
    """The `stage` that makes a product, its `document` of JSON that reports read, if any, and those of its files that
    hold no measured time (`timeless`), so that the same recipe gives the same bytes."""

    stage: str
    document: str = ""
    timeless: tuple[str, ...] = ()


PRODUCTS = {
    "original": ProductFiles("fit", TrainingCurve.FILE, ("weights.safetensors",)),
    "baseline": ProductFiles("baseline", Evidence.FILE, ("portable.onnx", "model.onnx")),
    "library": ProductFiles("library", ReplacementScores.FILE, ("weights.safetensors",)),
    "profile": ProductFiles(
        "profile", ProfiledSites.FILE, (Calibration.FILE, "moments.safetensors", "pruned.safetensors")
    ),
    "sensitivity": ProductFiles("sensitivity", ExpectedLosses.FILE),
    "plan": ProductFiles("search", Plan.FILE),
    "compressed": ProductFiles("compress", timeless=("weights.safetensors",)),
    "recovered": ProductFiles("recover", TrainingCurve.FILE, (CalibratedRanges.FILE, "weights.safetensors")),
    "exported": ProductFiles("export", Parity.FILE, ("portable.onnx", "model.onnx", "model.onnx.gz")),
    "artifact": ProductFiles("verify", Manifest.FILE),
}
"""By name, in the order in which stages make them."""


def stage_of_product(product: str) -> str:
    """The stage that makes it; the name itself where it is not one of ours."""
    return PRODUCTS[product].stage if product in PRODUCTS else product


NOTES = "notes.txt"
"""Lines in a product's folder that a person should read: `run` prints them, also where the product was there."""


def read_notes(folder: Path) -> tuple[str, ...]:
    """What the stages of a run wrote for people."""
    files = (folder / name / NOTES for name in PRODUCTS)
    return tuple(line for file in files if is_own_file(file) for line in read_text(file, LONGEST).splitlines())


def is_own_file(file: Path) -> bool:
    """Whether a product has the file. Products hold no symbolic links: one would show a file from elsewhere."""
    return file.is_file() and not file.is_symlink()


def write_notes(folder: Path, lines: Sequence[str]) -> None:
    """Writes lines that a person should read into a product's folder; no file where there are none."""
    if lines:
        (folder / NOTES).write_text("".join(f"{line}\n" for line in lines))
