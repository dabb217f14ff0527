"""How an image of any shape becomes the square that the model sees, with the modes and pixels of timm's evaluation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Exif = Literal["ignore", "apply"]
Size = tuple[int, int]
"""Width and height in pixels."""

MOST_SCALED = 100_000_000
"""Pixels of an image while it is scaled: a line of one pixel would become endlessly long."""


@dataclass(frozen=True)
class Framing:
    """What is done to an image until it is `side` pixels wide and high.

    `mean` is the colour, of 0..1 per channel, that `border` pads with. `exif` says whether an image is turned first as
    its EXIF data say.
    """

    side: int
    crop_mode: CropMode = "center"
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    exif: Exif = "ignore"

    @property
    def scaled_side(self) -> int:
        """The length in pixels to which the image is scaled before its centre is cut out."""
        return math.floor(self.side / self.crop_pct)

    @property
    def cuts_first(self) -> bool:
        """Whether the centre is cut out of the image as it is and then scaled, which is what paredown did before there
        was a choice. timm scales first, and rounds the long side and the cut to whole pixels: what it sees lies up to
        one pixel of the square beside this, for square images nowhere."""
        return (self.crop_mode, self.crop_pct, self.interpolation) == ("center", 1.0, "bilinear")

    def scaled_size(self, size: Size) -> Size:
        """Width and height to which an image of `size` is scaled before its centre is cut out."""
        return _SCALED[self.crop_mode](size, self.scaled_side)

    def cut_off(self, size: Size) -> float:
        """The share of the area of an image of `size` that the model never sees."""
        if self.cuts_first:
            return 1 - min(size) / max(size)
        width, height = self.scaled_size(size)
        return 1 - min(1, self.side / width) * min(1, self.side / height)

    def enlarged(self, size: Size) -> float:
        """The factor by which the sides of an image of `size` are scaled, their geometric mean where it differs."""
        (width, height), (old_width, old_height) = self.scaled_size(size), size
        return math.sqrt(width * height / (old_width * old_height))

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour of what `border` adds."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def __str__(self) -> str:
        """What to do with an image, in the words of somebody who feeds the model elsewhere."""
        turned = "turned as its EXIF data say, " if self.exif == "apply" else ""
        return f"{turned}{self._square_in_words()}"

    def _square_in_words(self) -> str:
        square, how = f"{self.side} x {self.side} px", _in_words(self.interpolation)
        if self.cuts_first:
            return f"largest centre square, scaled to {square}, {how}"
        cut = f", centre crop {square}" if self.scaled_side != self.side or self.crop_mode == "center" else ""
        match self.crop_mode:
            case "center":
                return f"short side to {self.scaled_side} px, {how}{cut}"
            case "squash":
                return f"scaled to {self.scaled_side} x {self.scaled_side} px whatever its shape, {how}{cut}"
            case "border":
                return f"long side to {self.scaled_side} px, {how}, padded to {square} with RGB {self.fill}{cut}"


def _in_words(interpolation: Interpolation) -> str:
    return interpolation if interpolation == "nearest" else f"{interpolation} with antialiasing (as Pillow)"


def framed(image: Image.Image, framing: Framing) -> Image.Image:
    """The square of an RGB image. Raises ValueError for one so long that scaling it takes too much memory."""
    side = framing.side
    if framing.cuts_first:
        return _scaled_centre(image, side)
    width, height = framing.scaled_size(image.size)
    if width * height > MOST_SCALED:
        got = f"{image.width}x{image.height} pixels would be scaled to {width}x{height}"
        raise ValueError(f"{got}; allowed are {MOST_SCALED} in all")
    scaled = image.resize((width, height), Image.Resampling[framing.interpolation.upper()])
    return _centre(_padded(scaled, side, framing.fill), side)


def _scaled_centre(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)


def _short_side_to(size: Size, length: int) -> Size:
    width, height = size
    return (length, length * height // width) if width <= height else (length * width // height, length)


def _long_side_to(size: Size, length: int) -> Size:
    ratio = max(size) / length
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


_SCALED: dict[CropMode, Callable[[Size, int], Size]] = {
    "center": _short_side_to,
    "squash": lambda _, length: (length, length),
    "border": _long_side_to,
}


def _padded(image: Image.Image, side: int, fill: tuple[int, int, int]) -> Image.Image:
    """At least `side` wide and high; of an odd number of missing pixels one more is added right and below."""
    across, down = (max(0, side - length) for length in image.size)
    return ImageOps.expand(image, (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2), fill)


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))
