"""Where labelled images come from: a `ImageSource` lists them, decodes each when asked, and digests them all."""

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from paredown.models.data.framing import Framing, framed
from paredown.models.data.image_facts import DEEP, SEVERAL_FRAMES, ImageTraits, is_rotated, traits_of
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
    which it is; `digest()` covers all contents. `named` is whether the classes have names, or are numbers only;
    `origins` says of every split that the data comes with what it is there, `notes` are lines on what was left out;
    `unseen` are classes that the model has and the data lacks; `inner_names` are names of the numbers that lie
    inside of what a function returned: they count where a recipe lists classes.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    parts: Mapping[str, Positions]
    read: Callable[[int], Image.Image]
    name: Callable[[int], str]
    digest: Callable[[], str]
    licence: str = "not stated"
    named: bool = True
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unseen: frozenset[str] = frozenset()
    inner_names: tuple[str, ...] = ()

    def pixels(self, position: int, framing: Framing) -> tuple[NDArray[np.uint8], ImageTraits]:
        """Image `position` as (side, side, 3), and what it was. Raises InputError that names a broken image."""
        try:
            image = self.read(position)
            return square_image(image, framing), traits_of(image)
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
            noted = {SEVERAL_FRAMES: _has_several_frames(image), DEEP: _is_deep(image)}
            image.load()
            image.info |= {name: True for name, is_so in noted.items() if is_so}
            return image


@runtime_checkable
class _Animated(Protocol):
    """What images of those formats have that can hold several frames."""

    is_animated: bool


def _has_several_frames(image: Image.Image) -> bool:
    try:
        return isinstance(image, _Animated) and image.is_animated
    except Exception:  # a damaged second frame does no harm to the first, which is the one that is used
        return False


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether colours of 16 bits are about to be read as 8: of grey ones `square_image` says so."""
    forms = [tile.args if isinstance(tile.args, str) else str(tile.args[:1]) for tile in image.tile if tile.args]
    return any(";16" in form and "BGR" not in form for form in forms)


def square_image(image: Image.Image, framing: Framing) -> NDArray[np.uint8]:
    """(side, side, 3): the image in RGB, framed. Raises ValueError for grey of more than 8 bits, which
    Pillow would make white."""
    if 0 in image.size:
        raise ValueError(f"{image.width}x{image.height} pixels")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}: more than 8 bits per channel; save it with 8")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if framing.exif == "apply" and is_rotated(image):
        image = ImageOps.exif_transpose(image)
    return np.asarray(framed(image.convert("RGB"), framing))


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
