"""Labelled images in folders, one per class, and those of the package elpv-dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paredown.models.data.folder_layout import (
    ClassFolder,
    allowed_splits,
    beside_note,
    folders_in,
    holds_class_folders,
    holds_images,
    list_class_folder,
    refuse_deeper_classes,
    unread_note,
)
from paredown.models.data.sources import ImageSource, checked_names, digest_text, open_image
from paredown.models.data.split_names import named_splits, split_of, with_test
from paredown.models.data.splits import Positions
from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_folder, package_folder

ELPV_LICENCE = "CC BY-NC-SA 4.0 (ELPV: Buerhop-Lutz et al. 2018, Deitsch et al. 2019, 2021)"


def images_from_folder(base: Path, listed: Sequence[str] = ()) -> ImageSource:
    """One folder per class, or split folders (`split_names.SPLIT_NAMES`) with one folder per class each.

    `listed` are the classes that the recipe names, if it does: then it is clear which folders stand for classes. Raises
    InputError, with what was seen, for trees that can be understood in another way.
    """
    if not is_folder(base):
        raise InputError(f"{base}: no such folder")
    folders = folders_in(base)
    if not _has_splits(folders, listed):
        return _from_class_folders(base, {"train": folders}, {}, listed)
    splits = _split_folders(base, folders)
    parts = {split: folders_in(folders[splits[split]]) for split in _ORDER if split in splits}
    return _from_class_folders(base, parts, splits, listed)


_ORDER = ("train", "test", "validation", "calibration")
"""In which splits are read; fingerprints of data depend on it."""


def _has_splits(folders: Mapping[str, Path], listed: Sequence[str]) -> bool:
    """Whether folders stand for splits. A class may be called `train` too: then images lie in it, and others beside."""
    if listed and set(folders) <= set(listed):
        return False
    named = [name for name in folders if split_of(name)]
    return bool(named) and (len(named) == len(folders) or any(holds_class_folders(folders[name]) for name in named))


def _split_folders(base: Path, folders: Mapping[str, Path]) -> dict[str, str]:
    """Split to the name of its folder. Raises InputError for a folder of images that means no split."""
    unknown = [name for name in folders if not split_of(name) and holds_images(folders[name])]
    if unknown:
        raise InputError(
            f"{base}: got the folders {', '.join(folders)}, of which '{unknown[0]}' means no split; {allowed_splits()} "
            "(one whose name starts with _ is passed over)"
        )
    splits = with_test(named_splits([name for name in folders if split_of(name)], str(base)))
    for name in splits.values():
        if holds_images(folders[name]) and not holds_class_folders(folders[name]):
            raise InputError(f"{folders[name]}: holds images and no class folders; allowed: one folder per class in it")
    return splits


def _from_class_folders(
    base: Path, parts: Mapping[str, Mapping[str, Path]], splits: Mapping[str, str], listed: Sequence[str]
) -> ImageSource:
    classes = checked_names(tuple(parts["train"]), str(base))
    files: list[Path] = []
    labels: list[int] = []
    positions: dict[str, Positions] = {}
    read: list[ClassFolder] = []
    for part, folders in parts.items():
        start = len(files)
        for name, folder in folders.items():
            if name not in classes:
                raise InputError(f"{folder}: class '{name}' is not in train ({', '.join(classes[:5])}, ...)")
            one = list_class_folder(folder)
            refuse_deeper_classes(one, folders, bool(listed))
            read.append(one)
            files += one.images
            labels += [classes.index(name)] * len(one.images)
        positions[part] = np.arange(start, len(files))
    if not files:
        raise InputError(f"{base}: no images: it must hold one folder per class, or train/ and test/ with those")
    beside = [line for folder in (base, *(base / name for name in splits.values())) for line in beside_note(folder)]
    origins = {split: f"the folder {name}" for split, name in splits.items()}
    return replace(_from_files(files, labels, classes, positions), origins=origins, notes=(*beside, *unread_note(read)))


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
