"""Lists labelled images in folders, in array files and in the ELPV package, and decodes them one by one."""

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paredown.models.data.splits import Positions
from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file, is_folder, package_folder
from paredown.models.loading.archives import check_archive

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What is decoded, whatever a file's name says: of others Pillow hands some to programs that run what is in them."""
MOST_UNNAMED = 100_000
"""Classes whose names are not given."""
MOST_PIXELS = 100_000_000
"""Of one image; compressed it may be a few bytes."""
ELPV_LICENCE = "CC BY-NC-SA 4.0 (ELPV: Buerhop-Lutz et al. 2018, Deitsch et al. 2019, 2021)"


@dataclass(frozen=True)
class Source:
    """Labelled images that are not decoded yet.

    `labels` are indices into `classes`; `parts` are the positions of every split that the data comes with
    (`train` alone if it is not split); `read(i)` decodes image i and `name(i)` says
    which it is; `digest()` covers all contents.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    parts: Mapping[str, Positions]
    read: Callable[[int], Image.Image]
    name: Callable[[int], str]
    digest: Callable[[], str]
    licence: str = "not stated"

    def pixels(self, position: int, size: int) -> NDArray[np.uint8]:
        """Image `position` as (size, size, 3). Raises InputError that names a broken image."""
        try:
            return square(self.read(position), size)
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise many types
            raise InputError(f"{self.name(position)}: cannot be decoded ({error})") from error


def open_image(path: Path) -> Image.Image:
    """A decoded image. Raises InputError for one that is too large, and what Pillow raises for a broken one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"{path}: {image.width}x{image.height} pixels; allowed are {MOST_PIXELS} in all")
            image.load()
            return image


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """(size, size, 3): the short side scaled to `size`, antialiased; the long side cropped to its centre."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}: more than 8 bits per channel; save it with 8")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("RGB")
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def from_folder(base: Path) -> Source:
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


def _from_class_folders(base: Path, parts: Mapping[str, Mapping[str, Path]]) -> Source:
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
) -> Source:
    def digest() -> str:
        contents = map(digest_file, files)
        lines = (f"{label} {path.name} {content}" for label, path, content in zip(labels, files, contents, strict=True))
        return digest_text([f"{part} {len(positions)}" for part, positions in parts.items()], lines)

    kinds = np.array(labels, dtype=np.int64)
    return Source(
        kinds, classes, parts, lambda position: open_image(files[position]), lambda i: str(files[i]), digest, licence
    )


def from_elpv() -> Source:
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


def from_npz(path: Path) -> Source:
    """Arrays `images` (N, H, W[, 1 or 3]) uint8, `labels` (N,) and, if the classes have names, `classes`."""
    arrays = _read_npz(path)
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        got = f"{images.dtype} {images.shape}"
        raise InputError(f"{path}: images is {got}; allowed: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        got = f"{labels.dtype} {labels.shape}"
        raise InputError(f"{path}: labels is {got}; allowed: integers of shape ({len(images)},)")
    indices = labels.astype(np.int64)
    given = _named_classes(arrays["classes"], path) if "classes" in arrays else None
    pictures = images[..., 0] if images.shape[3:] == (1,) else images
    return Source(
        indices,
        class_names(given, indices, str(path)),
        {"train": np.arange(len(indices))},
        lambda position: Image.fromarray(pictures[position]),
        lambda position: f"{path}: image {position}",
        lambda: digest_file(path),
    )


def _named_classes(classes: NDArray[Any], path: Path) -> tuple[str, ...]:
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        raise InputError(f"{path}: classes is {classes.dtype} {classes.shape}; allowed: one name per class")
    return tuple(map(str, classes))


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not is_file(path):
        raise InputError(f"{path}: no such file")
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


def class_names(given: Sequence[str] | None, labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """The names of the classes: those given, else their numbers."""
    if not len(labels):
        raise InputError(f"{where}: no images")
    most = len(given) if given is not None else max(len(labels), MOST_UNNAMED)
    if labels.min() < 0 or labels.max() >= most:
        got = f"labels are {labels.min()} to {labels.max()}"
        raise InputError(f"{where}: {got}; allowed: 0 to {most - 1}")
    return checked_names(tuple(given) if given is not None else tuple(map(str, range(int(labels.max()) + 1))), where)


def checked_names(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The names, which end up in files and on terminals. Raises InputError where that could do harm."""
    if odd := [name for name in names if not name.isprintable()]:
        raise InputError(f"{where}: the class {odd[0]!r} has characters in its name that cannot be printed")
    return names


def digest_text(*texts: Iterable[str]) -> str:
    """sha256 over lines of text."""
    total = hashlib.sha256()
    for line in itertools.chain(*texts):
        total.update(line.encode(errors="surrogateescape") + b"\n")
    return total.hexdigest()
