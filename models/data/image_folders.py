"""Labelled images in folders, one per class, and those of the package elpv-dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from paredown.models.data.sources import ImageSource, checked_names, digest_text, open_image
from paredown.models.data.splits import Positions
from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_folder, package_folder

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
ELPV_LICENCE = "CC BY-NC-SA 4.0 (ELPV: Buerhop-Lutz et al. 2018, Deitsch et al. 2019, 2021)"


def images_from_folder(base: Path) -> ImageSource:
    """One folder per class, or `train/` and `test/` (or `val/`) with one folder per class each."""
    if not is_folder(base):
        raise InputError(f"{base}: no such folder")
    folders = _folders(base)
    held_out = folders.get("test") or folders.get("val")
    if "train" not in folders or held_out is None:
        return _from_class_folders(base, {"train": folders})
    parts = {"train": _folders(folders["train"]), "test": _folders(held_out)}
    if "test" in folders and "val" in folders:
        parts["validation"] = _folders(folders["val"])
    return _from_class_folders(base, parts)


def _folders(base: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(base.iterdir()) if path.is_dir() and path.name[0] not in "._"}


def _from_class_folders(base: Path, parts: Mapping[str, Mapping[str, Path]]) -> ImageSource:
    classes = checked_names(tuple(parts["train"]), str(base))
    files: list[Path] = []
    labels: list[int] = []
    positions: dict[str, Positions] = {}
    for part, folders in parts.items():
        start = len(files)
        for name, folder in folders.items():
            if name not in classes:
                raise InputError(f"{folder}: class '{name}' is not in train ({', '.join(classes[:5])}, ...)")
            images = _images(folder)
            files += images
            labels += [classes.index(name)] * len(images)
        positions[part] = np.arange(start, len(files))
    if not files:
        raise InputError(f"{base}: no images: it must hold one folder per class, or train/ and test/ with those")
    return _from_files(files, labels, classes, positions)


def _images(folder: Path) -> list[Path]:
    files = folder.rglob("*")
    return sorted((path for path in files if path.suffix.lower() in SUFFIXES and path.name[0] != "."), key=str)


def _from_files(
    files: Sequence[Path],
    labels: Sequence[int],
    classes: tuple[str, ...],
    parts: Mapping[str, Positions],
    licence: str = "not stated",
) -> ImageSource:
    def digest() -> str:
        contents = map(digest_file, files)
        lines = (f"{label} {path.name} {content}" for label, path, content in zip(labels, files, contents, strict=True))
        return digest_text([f"{part} {len(positions)}" for part, positions in parts.items()], lines)

    kinds = np.array(labels, dtype=np.int64)
    return ImageSource(
        kinds, classes, parts, lambda position: open_image(files[position]), lambda i: str(files[i]), digest, licence
    )


def images_from_elpv() -> ImageSource:
    """2,624 photovoltaic cells in electroluminescence light, from the installed package elpv-dataset.

    A cell is defective where the experts' probability of a defect is over 0.5. The images are under
    CC BY-NC-SA 4.0: not for commercial use. Raises MissingError where the package is not installed.
    """
    base = package_folder("elpv_dataset") / "data"
    rows = [line.split() for line in (base / "labels.csv").read_text().splitlines() if line.strip()]
    files = [base / row[0] for row in rows]
    labels = [int(float(row[1]) > 0.5) for row in rows]
    parts = {"train": np.arange(len(files))}
    return _from_files(files, labels, ("functional", "defective"), parts, ELPV_LICENCE)
