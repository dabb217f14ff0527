"""Labelled images in one .npz file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paredown.models.data.sources import ImageSource, class_names
from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file, refuse_pointer
from paredown.models.loading.archives import check_archive


def images_from_npz(path: Path) -> ImageSource:
    """Arrays `images` (N, H, W[, 1 or 3]) uint8, `labels` (N,) and, if the classes have names, `classes`."""
    arrays = _read_npz(path)
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        got = f"{images.dtype} {images.shape}"
        raise InputError(f"{path}: images is {got}; allowed: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        got = f"{labels.dtype} {labels.shape}"
        fix = "; one-hot labels are written as labels.argmax(1)" if labels.ndim == 2 else ""
        raise InputError(f"{path}: labels is {got}; allowed: integers of shape ({len(images)},){fix}")
    indices = labels.astype(np.int64)
    given = _named_classes(arrays["classes"], path) if "classes" in arrays else None
    pictures = images[..., 0] if images.shape[3:] == (1,) else images
    return ImageSource(
        indices,
        class_names(given, indices, str(path)),
        {"train": np.arange(len(indices))},
        lambda position: Image.fromarray(pictures[position]),
        lambda position: f"{path}: image {position}",
        lambda: digest_file(path),
        named=given is not None,
    )


def _named_classes(classes: NDArray[Any], path: Path) -> tuple[str, ...]:
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        raise InputError(f"{path}: classes is {classes.dtype} {classes.shape}; allowed: one name per class")
    return tuple(map(str, classes))


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not is_file(path):
        raise InputError(f"{path}: no such file")
    refuse_pointer(path)
    check_archive(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            read = {name: stored[name] for name in ("images", "labels", "classes") if name in stored}
            names = list(stored)
    except Exception as error:
        raise InputError(f"{path}: cannot be read as an .npz file ({error})") from error
    arrays = {name: value for name, value in read.items() if isinstance(value, np.ndarray)}
    if not {"images", "labels"} <= set(arrays):
        raise InputError(f"{path}: needs the arrays images and labels; it has {', '.join(names[:20]) or 'none'}")
    return arrays
