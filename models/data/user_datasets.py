"""Labelled images of the torch datasets that a function in a file of the user's returns."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paredown.models.data.dataset_labels import matched_classes, whole_label
from paredown.models.data.sources import ImageSource, class_names, digest_text
from paredown.models.data.split_names import ALLOWED, named_splits, split_of, with_test
from paredown.models.data.splits import SPLITS
from paredown.models.errors import InputError
from paredown.models.loading.code_places import fault_of
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.user_code import load_function


def from_function(source: str, root: Path) -> ImageSource:
    """The dataset, or the datasets by split's name, that `path/to/file.py:function` returns.

    Every item is (image, label): a PIL image or a tensor (3 or 1, H, W), uint8 or float in 0..1. A dataset's
    `classes`, if it has them, name the classes; those of several datasets are matched by their names. Splits may have
    the names of `SPLIT_NAMES`; `val` is the validation split, and the test split where there is no `test`. Every item
    is read once to learn the labels and to prove the contents.
    """
    parts, origins = _datasets(source, root)
    items = [(name, dataset, i) for name, dataset in parts.items() for i in range(len(dataset))]
    _check_steady(source, items)
    entries = [_entry(source, *item) for item in items]
    labels = np.array([label for label, _ in entries], dtype=np.int64)
    names = np.array([name for name, _, _ in items])
    digest = digest_text(f"{name} {label} {text}" for name, (label, text) in zip(names, entries, strict=True))

    matched = matched_classes(parts, names, labels, f"data '{source}'")

    def describe(position: int) -> str:
        name, _, index = items[position]
        return f"{source}: {name} image {index}"

    return ImageSource(
        matched.labels,
        class_names(matched.classes, matched.labels, source),
        {name: np.flatnonzero(names == name) for name in parts},
        lambda position: _item(source, *items[position])[0],
        describe,
        lambda: digest,
        named=matched.classes is not None,
        origins={split: f"'{name}' of {source}" for split, name in origins.items()},
        notes=matched.notes,
        inner_names=matched.inner,
    )


def _datasets(source: str, root: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The datasets by split's name, and what each was called. Raises InputError where the function fails, or returns
    something else."""
    quiet_torchvision()  # the file may import it
    try:
        made = load_function(source, root)()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"data '{source}' raised {fault_of(error)}") from error
    parts = {str(key): value for key, value in made.items()} if isinstance(made, Mapping) else {"train": made}
    origins = _origins(parts, source)
    for dataset in parts.values():
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"data '{source}' returned {type(dataset).__name__}, not a dataset with a length")
    named = {split: parts[name] for split, name in origins.items()}
    return named, (origins if isinstance(made, Mapping) else {})


def _origins(parts: Mapping[str, Any], source: str) -> dict[str, str]:
    """Split to the key that means it. Raises InputError for keys that mean none."""
    keys = list(parts)
    if unknown := [key for key in keys if split_of(key) is None]:
        raise InputError(
            f"data '{source}' returned {', '.join(keys)}; allowed: train and {', '.join(SPLITS[1:])}, "
            f"also as {ALLOWED}; '{unknown[0]}' means none of them"
        )
    ordered = sorted(keys, key=lambda key: key not in SPLITS)  # as ever: fingerprints of data depend on the order
    found = named_splits(ordered, f"data '{source}'")
    # The split's own name is meant as it is written: then the test split is cut from train.
    return found if "validation" in keys else with_test(found)


def _item(source: str, name: str, dataset: Any, index: int) -> tuple[Image.Image, int]:
    """One image and its label. Raises InputError that names the item where the dataset gives something else."""
    where = f"data '{source}': {name} item {index}"
    try:
        image, label = _pair(dataset[index])
        return _picture(image), whole_label(label)
    except Exception as error:
        raise InputError(f"{where}: {fault_of(error)}") from error


def _pair(item: Any) -> tuple[Any, Any]:
    """An item's image and label. Raises ValueError for an item of another form."""
    allowed = "allowed: a pair (image, label)"
    if isinstance(item, Mapping | str):
        raise ValueError(f"the item is {type(item).__name__}; {allowed}")
    values = tuple(item)
    if len(values) != 2:
        raise ValueError(f"the item has {len(values)} values; {allowed}")
    return values[0], values[1]


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
