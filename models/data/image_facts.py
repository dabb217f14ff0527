"""What the images of a recipe are, and what is done to them on their way into the model: counted, and told."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import ExifTags, Image
from pydantic import ValidationError

from paredown.models.data.framing import Framing, Size
from paredown.models.errors import MachineError
from paredown.models.spec import Record

FILE = "image-facts.json"
SEVERAL_FRAMES, DEEP = "several frames", "16 bits"
"""Keys of Pillow's `info` under which `open_image` notes what is no longer to be seen of a decoded image."""

CONVERSIONS: Mapping[str, str] = {
    "rotated": "have an EXIF rotation: it is not applied, as in torchvision and timm (exif: apply does)",
    "alpha": "have an alpha channel (transparency): it is dropped, and the colours beneath it are seen",
    "frames": "have several frames: the first one is used",
    "deep": "have 16 bits per channel: the upper 8 are used",
    "cmyk": "are CMYK: converted to RGB without a colour profile",
    "palette": "have a palette: its colours are used",
    "grey": "are grey: the same value is in all three channels",
    "other": "have another colour space than RGB: converted",
}
APPLIED = "have an EXIF rotation: they are turned"
MUCH_CUT, MUCH_LARGER = 0.5, 2.0
"""One is warned from this share of a typical image's area that is cut off, and from this enlargement of its sides."""


@dataclass(frozen=True)
class ImageTraits:
    """Of one image as it was decoded: its size, and the names in CONVERSIONS of what is done to it."""

    size: Size
    conversions: tuple[str, ...]


class ImageFacts(Record):
    """Of all images: how many have which conversion; the median width and height in pixels, the median share of the
    area that is cut off, and the median factor by which sides are enlarged."""

    images: int
    conversions: Mapping[str, int]
    size: Size
    cut_off: float
    enlarged: float

    def lines(self, framing: Framing) -> Iterator[str]:
        """What a person should know, a line each; first how an image becomes the input."""
        typical = f"a typical image ({self.size[0]} x {self.size[1]} px)"
        cut = f"; {100 * self.cut_off:.0f} % of {typical} is cut off" if self.cut_off >= 0.005 else ""
        yield f"input: {framing}{cut}"
        for name, count in self.conversions.items():
            words = APPLIED if name == "rotated" and framing.exif == "apply" else CONVERSIONS[name]
            yield f"pixels: {count} of {self.images} images {words}"
        if self.cut_off >= MUCH_CUT:
            yield f"warning: {100 * self.cut_off:.0f} % of {typical} is cut off; crop_mode squash and border keep all"
        if self.enlarged >= MUCH_LARGER:
            yield f"warning: {typical} is enlarged {self.enlarged:.1f} times; is data.image_size what the model needs?"


def traits_of(image: Image.Image) -> ImageTraits:
    """What an image is, before anything is done to it."""
    seen = {
        "rotated": is_rotated(image),
        "alpha": "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"),
        "frames": SEVERAL_FRAMES in image.info,
        "deep": DEEP in image.info,
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "grey": image.mode in ("1", "L", "LA", "La"),
        "other": image.mode in ("YCbCr", "LAB", "HSV"),
    }
    return ImageTraits(image.size, tuple(name for name, is_so in seen.items() if is_so))


def is_rotated(image: Image.Image) -> bool:
    """Whether the image's EXIF data say that it is to be turned or mirrored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(image.getexif().get(ExifTags.Base.Orientation, 1)) != 1
    except Exception:  # damaged EXIF data raise many types, and the image can be read all the same
        return False


def summarised(traits: Sequence[ImageTraits], framing: Framing) -> ImageFacts:
    """The facts of images with these traits; at least one."""
    names = [name for one in traits for name in one.conversions]
    return ImageFacts(
        images=len(traits),
        conversions={name: names.count(name) for name in CONVERSIONS if name in names},
        size=(round(median(one.size[0] for one in traits)), round(median(one.size[1] for one in traits))),
        cut_off=round(median(framing.cut_off(one.size) for one in traits), 4),
        enlarged=round(median(framing.enlarged(one.size) for one in traits), 4),
    )


def write_facts(facts: ImageFacts, folder: Path) -> None:
    (folder / FILE).write_text(facts.model_dump_json())


def read_facts(folder: Path) -> ImageFacts | None:
    """What `write_facts` wrote; None where an earlier version decoded the images. Raises MachineError where it is
    damaged."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return ImageFacts.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise MachineError(f"{folder}: damaged, delete this folder ({FILE} cannot be read)") from error
