"""How images become squares: the pixels are those of timm and torchvision, and the words say what was done."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from paredown.models.data.framing import Framing, framed
from paredown.models.loading.libraries import quiet_torchvision

SIZES = [(101, 67), (67, 101), (33, 250), (17, 13), (64, 64), (32, 32), (300, 299), (31, 45)]
AROUND = (ImageFilter.MinFilter, ImageFilter.MaxFilter)
"""The least and the largest of a pixel and those around it."""
MEAN = (0.485, 0.456, 0.406)


def photograph(size: tuple[int, int]) -> Image.Image:
    """Smooth colours with edges, of (width, height)."""
    rng = np.random.default_rng(size)
    coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def timms(image: Image.Image, **options: Any) -> NDArray[np.int64]:
    quiet_torchvision()
    from timm.data.transforms_factory import transforms_imagenet_eval

    transform = transforms_imagenet_eval(use_prefetcher=True, mean=MEAN, **options)
    return np.asarray(transform(image)).transpose(1, 2, 0).astype(np.int64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_pixels_are_those_of_timm(size: tuple[int, int], crop_mode: Any, crop_pct: float, interpolation: Any) -> None:
    framing = Framing(32, crop_mode, crop_pct, interpolation, MEAN)
    if framing.cuts_first:
        pytest.skip("cuts first: see below")
    image = photograph(size)
    theirs = timms(image, img_size=32, crop_mode=crop_mode, crop_pct=crop_pct, interpolation=interpolation)
    assert np.array_equal(pixels(framed(image, framing)), theirs)


@pytest.mark.parametrize("size", SIZES)
def test_the_default_is_what_it_always_was_and_close_to_timm(size: tuple[int, int]) -> None:
    image, (width, height), short = photograph(size), size, min(size)
    box = ((width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2)
    ours = pixels(framed(image, Framing(32)))
    assert np.array_equal(ours, pixels(image.resize((32, 32), Image.Resampling.BILINEAR, box=box)))
    theirs = Image.fromarray(timms(image, img_size=32, crop_pct=1.0).astype(np.uint8))
    low, high = (pixels(theirs.filter(around(1 if width == height else 3))) for around in AROUND)
    allowed = 2 if short > 20 else 10  # what is enlarged has corners between its pixels
    assert np.all((low - allowed <= ours) & (ours <= high + allowed))


def test_squash_is_the_resize_of_tutorials() -> None:
    quiet_torchvision()
    from torchvision import transforms

    image = photograph((96, 48))
    assert np.array_equal(pixels(framed(image, Framing(32, "squash"))), pixels(transforms.Resize((32, 32))(image)))


def test_the_presets_of_torchvision() -> None:
    quiet_torchvision()
    from torchvision import transforms

    steps = transforms.Compose([transforms.Resize(73), transforms.CenterCrop(64)])
    image = photograph((130, 91))
    framing = Framing(64, "center", 0.875)
    assert framing.scaled_side == 73
    assert np.array_equal(pixels(framed(image, framing)), pixels(steps(image)))


@pytest.mark.parametrize(
    ("framing", "words"),
    [
        (Framing(32), "largest centre square, scaled to 32 x 32 px, bilinear with antialiasing (as Pillow)"),
        (
            Framing(128, "center", 0.875, "bicubic"),
            "short side to 146 px, bicubic with antialiasing (as Pillow), centre crop 128 x 128 px",
        ),
        (Framing(128, "center", 1.0, "nearest"), "short side to 128 px, nearest, centre crop 128 x 128 px"),
        (
            Framing(32, "squash"),
            "scaled to 32 x 32 px whatever its shape, bilinear with antialiasing (as Pillow)",
        ),
        (
            Framing(32, "border", 1.0, "box", MEAN),
            "long side to 32 px, box with antialiasing (as Pillow), padded to 32 x 32 px with RGB (124, 116, 104)",
        ),
    ],
)
def test_in_words(framing: Framing, words: str) -> None:
    assert str(framing) == words


def test_how_much_of_an_image_is_seen() -> None:
    assert Framing(32).cut_off((96, 48)) == 0.5
    assert Framing(32, "squash").cut_off((96, 48)) == Framing(32, "border").cut_off((96, 48)) == 0
    assert Framing(28, "center", 0.875).cut_off((64, 64)) == pytest.approx(1 - 0.875**2)
    assert Framing(224).enlarged((32, 32)) == 7
    assert Framing(224, "squash").enlarged((56, 14)) == 8


def test_a_line_of_pixels_is_not_scaled_without_bounds() -> None:
    thin = Image.new("RGB", (100_000, 2))
    with pytest.raises(ValueError, match=r"100000x2 pixels would be scaled to 1600000x32; allowed are|scaled to"):
        framed(thin, Framing(64, "center", 0.5))
    assert framed(thin, Framing(64)).size == framed(thin, Framing(64, "border", 0.5)).size == (64, 64)
