"""Where labelled images come from: a `ImageSource` lists them, decodes each when asked, and digests them all."""

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paredown.models.data.splits import Positions
from paredown.models.errors import InputError
from paredown.models.files import refuse_pointer

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What is decoded, whatever a file's name says: of others Pillow hands some to programs that run what is in them."""
MOST_UNNAMED = 100_000
"""Classes whose names are not given."""
MOST_PIXELS = 100_000_000
"""Of one image; compressed it may be a few bytes."""


@dataclass(frozen=True)
class ImageSource:
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
            return square_image(self.read(position), size)
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise many types
            refuse_pointer(Path(self.name(position)))
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


def square_image(image: Image.Image, size: int) -> NDArray[np.uint8]:
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
