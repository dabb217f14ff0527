"""Labelled images of the torch datasets that a function in a file of the user's returns."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paredown.models.data.sources import ImageSource, class_names, digest_text
from paredown.models.data.splits import SPLITS
from paredown.models.errors import InputError
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.user_code import load_function


def from_function(source: str, root: Path) -> ImageSource:
    """The dataset, or the datasets by split's name, that `path/to/file.py:function` returns.

    Every item is (image, label): a PIL image or a tensor (3 or 1, H, W), uint8 or float in 0..1. A dataset's
    `classes`, if it has them, name the classes. `val` is the validation split, and the test split where there
    is no `test`. Every item is read once to learn the labels and to prove the contents.
    """
    parts = _datasets(source, root)
    items = [(name, dataset, i) for name, dataset in parts.items() for i in range(len(dataset))]
    _check_steady(source, items)
    entries = [_entry(source, *item) for item in items]
    labels = np.array([label for label, _ in entries], dtype=np.int64)
    names = np.array([name for name, _, _ in items])
    given = getattr(parts["train"], "classes", None)
    digest = digest_text(f"{name} {label} {text}" for name, (label, text) in zip(names, entries, strict=True))

    def describe(position: int) -> str:
        name, _, index = items[position]
        return f"{source}: {name} image {index}"

    return ImageSource(
        labels,
        class_names(given, labels, source),
        {name: np.flatnonzero(names == name) for name in parts},
        lambda position: _item(source, *items[position])[0],
        describe,
        lambda: digest,
    )


def _datasets(source: str, root: Path) -> dict[str, Any]:
    """The datasets by split's name. Raises InputError where the function fails, or returns something else."""
    quiet_torchvision()  # the file may import it
    try:
        made = load_function(source, root)()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"data '{source}' raised {type(error).__name__}: {error}") from error
    parts = dict(made) if isinstance(made, Mapping) else {"train": made}
    if "val" in parts:
        parts["validation" if "test" in parts else "test"] = parts.pop("val")
    if "train" not in parts or not set(parts) <= set(SPLITS):
        raise InputError(f"data '{source}' returned {', '.join(parts)}; allowed: train and {', '.join(SPLITS[1:])}")
    for dataset in parts.values():
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"data '{source}' returned {type(dataset).__name__}, not a dataset with a length")
    return parts


def _item(source: str, name: str, dataset: Any, index: int) -> tuple[Image.Image, int]:
    """One image and its label. Raises InputError that names the item where the dataset gives something else."""
    where = f"data '{source}': {name} item {index}"
    try:
        image, label = dataset[index]
        return _picture(image), int(label)
    except Exception as error:
        raise InputError(f"{where}: {type(error).__name__}: {error}") from error


def _entry(source: str, name: str, dataset: Any, index: int) -> tuple[int, str]:
    """The label of one image, and its mode, size and digest in a text."""
    image, label = _item(source, name, dataset, index)
    content = hashlib.sha256(image.tobytes()).hexdigest()
    return label, f"{image.mode} {image.size} {content}"


def _check_steady(source: str, items: list[tuple[str, Any, int]]) -> None:
    """Raises InputError where one of the first eight items is another image the second time."""
    for item in items[:8]:
        if _entry(source, *item) != _entry(source, *item):
            raise InputError(f"data '{source}' gives another image each time: leave changes to data.augment")


def _picture(image: Any) -> Image.Image:
    """A PIL image of one, or of an array (3 or 1, H, W). Raises ValueError for anything else."""
    if isinstance(image, Image.Image):
        return image
    array = np.asarray(image)
    if array.ndim != 3 or len(array) not in (1, 3) or array.dtype.kind not in "uf":
        raise ValueError(f"got {array.dtype} {array.shape}; allowed: a PIL image, or (3 or 1, H, W) uint8 or float")
    if array.dtype != np.uint8:
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"values {array.min():.3g} to {array.max():.3g}; allowed: 0 to 1, not normalised")
        array = np.round(array * 255).astype(np.uint8)
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
