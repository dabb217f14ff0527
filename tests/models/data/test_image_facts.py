"""What is done to images on their way into the model is counted, and told, also when they come from the cache."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.dataset import ImageData
from paredown.models.data.framing import Framing
from paredown.models.data.image_facts import FILE, ImageTraits, summarised, traits_of
from paredown.models.data.opening import open_data
from paredown.models.data.sources import open_image
from paredown.models.data.spec import DataSpec
from paredown.models.errors import MachineError

Save = Callable[[Path], None]


def noise(mode: str, size: tuple[int, int] = (12, 12), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def deep_png(path: Path) -> None:
    """A PNG of 16 bits per colour, which Pillow can read and not write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + struct.pack(">24H", *range(0, 48000, 2000)) for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "save", "found"),
    [
        ("plain.png", lambda path: noise("RGB").save(path), ()),
        ("plain.jpg", lambda path: noise("RGB", (16, 16)).save(path), ()),
        ("plain.tif", lambda path: noise("RGB", (16, 16)).save(path), ()),
        ("plain.bmp", lambda path: noise("RGB", (16, 16)).save(path), ()),
        ("alpha.png", lambda path: noise("RGBA").save(path), ("alpha",)),
        ("alpha.webp", lambda path: Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(path), ("alpha",)),
        ("grey.png", lambda path: noise("L").save(path), ("grey",)),
        ("palette.png", lambda path: noise("P").save(path), ("palette",)),
        ("see-through.png", lambda path: noise("P").save(path, transparency=0), ("alpha", "palette")),
        ("print.jpg", lambda path: noise("CMYK").save(path), ("cmyk",)),
        ("turned.jpg", lambda path: noise("RGB").save(path, exif=rotated()), ("rotated",)),
        ("turned.png", lambda path: noise("RGB").save(path, exif=rotated()), ("rotated",)),
        (
            "moving.webp",
            lambda path: noise("RGB").save(path, save_all=True, append_images=[noise("RGB", seed=1)]),
            ("frames",),
        ),
        ("deep.png", deep_png, ("deep",)),
    ],
)
def test_what_is_done_to_an_image(name: str, save: Save, found: tuple[str, ...], tmp_path: Path) -> None:
    save(tmp_path / name)
    assert traits_of(open_image(tmp_path / name)).conversions == found


def test_the_first_frame_is_used_and_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "moving.gif").convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "hidden.png")
    assert open_image(tmp_path / "hidden.png").convert("RGB").getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own, when it opens the file
def test_damaged_exif_data_refuse_no_image(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert traits_of(open_image(tmp_path / "odd.jpg")).conversions == ()


def opened(root: Path, **fields: object) -> ImageData:
    return open_data(DataSpec(source="pets", image_size=8, **fields), root, root / "cache", 0)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 images of 24 x 12 pixels in two classes: 5 with an alpha channel, 3 that are rotated."""
    for i in range(20):
        folder = tmp_path / "pets" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image = noise("RGBA" if i < 5 else "RGB", (24, 12), i)
        image.save(folder / f"{i}.png", **({"exif": rotated()} if i >= 17 else {}))
    return tmp_path


def test_they_are_counted_and_known_when_the_cache_is_hit(root: Path) -> None:
    first, again = opened(root).facts, opened(root).facts
    assert first is not None
    assert first == again
    assert first.conversions == {"rotated": 3, "alpha": 5}
    assert (first.images, first.size, first.cut_off, first.enlarged) == (20, (24, 12), 0.5, pytest.approx(2 / 3, 1e-3))
    squashed = opened(root, crop_mode="squash").facts
    assert squashed is not None
    assert squashed.cut_off == 0


def test_a_cache_of_an_earlier_version_has_none_and_a_damaged_one_is_named(root: Path) -> None:
    folder = root / "cache" / opened(root).fingerprint
    (folder / FILE).write_text("{}")
    with pytest.raises(MachineError, match="damaged, delete this folder"):
        opened(root)
    (folder / FILE).unlink()
    assert opened(root).facts is None


def test_lines_say_what_matters() -> None:
    traits = [ImageTraits((96, 48), ("alpha",))] * 3 + [ImageTraits((96, 48), ())] * 2
    lines = [*summarised(traits, Framing(32)).lines(Framing(32))]
    assert lines[0].startswith("input: largest centre square, scaled to 32 x 32 px, bilinear")
    assert lines[0].endswith("; 50 % of a typical image (96 x 48 px) is cut off")
    assert lines[1].startswith("pixels: 3 of 5 images have an alpha channel")
    assert lines[2].startswith("warning: 50 % of a typical image (96 x 48 px) is cut off")
    assert len(lines) == 3
    squash = Framing(32, "squash")
    assert [*summarised(traits[3:], squash).lines(squash)] == [f"input: {squash}"]


def test_images_that_are_much_too_small_are_told() -> None:
    small, framing = [ImageTraits((32, 32), ())], Framing(224)
    assert [*summarised(small, framing).lines(framing)][1].startswith(
        "warning: a typical image (32 x 32 px) is enlarged 7.0 times"
    )
    assert len([*summarised(small, Framing(48)).lines(Framing(48))]) == 1


def test_images_are_turned_only_where_one_asks_for_it(root: Path) -> None:
    turned = Image.new("RGB", (12, 12), "red")
    turned.paste("blue", (0, 0, 6, 12))  # blue on the left; turned it is on top
    for kind in ("cat", "dog"):
        for file in (root / "pets" / kind).iterdir():
            file.unlink()
        for i in range(4):
            turned.paste((60 * i, ord(kind[0]), 0), (9, 9, 12, 12))
            turned.save(root / "pets" / kind / f"{i}.png", exif=rotated())
    ignored, applied = opened(root), opened(root, exif="apply")
    assert ignored.test.images[0, :2, [0, 6], 2].tolist() == [[255, 255], [0, 0]]
    assert applied.test.images[0, :2, [0, 6], 2].tolist() == [[255, 255], [255, 255]]
    assert applied.facts is not None
    assert ignored.facts is not None
    framing = Framing(8, exif="apply")
    assert "pixels: 8 of 8 images have an EXIF rotation: they are turned" in applied.facts.lines(framing)
    assert str(framing).startswith("turned as its EXIF data say, largest centre square")
    assert any("it is not applied" in line for line in ignored.facts.lines(Framing(8)))
