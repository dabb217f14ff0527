"""Images of strangers: arrays, folders and single files are read within bounds, or refused in one line."""

import io
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from paredown.models.data.opening import open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError

SUFFIXES = ("png", "jpg", "bmp", "webp", "tif", "gif", "ppm")


def opened(root: Path, source: str) -> None:
    spec = DataSpec(source=source, image_size=8)
    data = open_data(spec, root, root / "cache", 0)
    assert data.train.images.shape[1:] == (8, 8, 3)


def noise(count: int = 24, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 images in each of two classes."""
    for number, image in enumerate(noise()):
        place = tmp_path / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return tmp_path / "images"


def test_changed_arrays(fuzz: Any, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez_compressed(path, images=noise(), labels=np.arange(24) % 2, classes=np.array(["a", "b"]))
    content = path.read_bytes()

    def attempt(seed: int) -> None:
        rng, fresh = random.Random(seed), bytearray(content)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(len(fresh))
            if rng.random() < 0.8:
                fresh[at] = rng.randrange(256)
            else:
                del fresh[at : at + rng.choice([1, 8, 10**5])]
                fresh += b" " * (not fresh)
        path.write_bytes(fresh)
        opened(tmp_path, "images.npz")

    opened(tmp_path, "images.npz")
    fuzz(st.integers(0, 2**32), 150, attempt)


ODD_ARRAYS = {
    "a huge label": {"labels": np.array([0, 1, 2**40])},
    "a label under zero": {"labels": np.array([0, 1, -1])},
    "labels beyond int64": {"labels": np.array([0, 1, 2**64 - 1], np.uint64)},
    "labels that are no numbers": {"labels": np.array(["0", "1", "0"])},
    "no label each": {"labels": np.array(3)},
    "no images": {"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, int)},
    "images of no pixels": {"images": np.zeros((3, 0, 8, 3), np.uint8)},
    "images of floats": {"images": np.zeros((3, 8, 8, 3))},
    "images without end": {"images": np.zeros((3,), np.uint8)},
    "one name for all classes": {"classes": np.array("a")},
    "classes of classes": {"classes": np.array([["a", "b"]])},
    "classes that steer a terminal": {"classes": np.array(["a", "\x1b[2J"])},
    "classes that are times": {"classes": np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")},
    "code": {"labels": np.array([0, 1, print], object)},
}


@pytest.mark.parametrize("odd", ODD_ARRAYS)
def test_odd_arrays(odd: str, refused: Any, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"images": noise(3), "labels": np.array([0, 1, 0]), **ODD_ARRAYS[odd]}
    np.savez(tmp_path / "images.npz", **arrays)
    assert "images.npz" in refused(lambda: opened(tmp_path, "images.npz"))


def array_file(shape: tuple[int, ...], content: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


@pytest.mark.parametrize("shape", [(2**33, 8, 8, 3), (2**20, 32, 32, 3), (-1, 8, 8, 3), (2**62, 2**62, 2, 3)])
def test_arrays_that_unpack_to_gigabytes_or_say_so(shape: tuple[int, ...], peak_of: Any, tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(24) % 2)
    with zipfile.ZipFile(tmp_path / "images.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", stream.getvalue())
        archive.writestr("images.npy", array_file(shape, bytes(2**28 if shape[0] == 2**33 else 1000)))
        archive.writestr("../../outside.npy", b"x")
    assert (tmp_path / "images.npz").stat().st_size < 2**20
    answer, more = peak_of(lambda: opened(tmp_path, "images.npz"))
    assert answer == "refused"
    assert more < 60


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_images(suffix: str, folder: Path, fuzz: Any) -> None:
    path = folder / "a" / f"odd.{suffix}"
    Image.fromarray(noise(1, 24)[0]).save(path)
    content = path.read_bytes()

    def attempt(seed: int) -> None:
        rng, fresh = random.Random(seed), bytearray(content)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(min(len(fresh), 200))
            if rng.random() < 0.8:
                fresh[at] = rng.randrange(256)
            else:
                del fresh[at : at + rng.choice([1, 8, 10**5])]
                fresh += b" " * (not fresh)
        path.write_bytes(fresh)
        opened(folder.parent, "images")

    opened(folder.parent, "images")
    fuzz(st.integers(0, 2**32), 12, attempt)


@pytest.mark.parametrize("side", [12_000, 50_000])
def test_images_of_absurd_size(side: int, folder: Path, peak_of: Any, refused: Any) -> None:
    """Up to 7.5 GB decoded, of which the file holds a few bytes."""
    path = folder / "a" / "huge.png"
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    path.write_bytes(PngImagePlugin._MAGIC + content[8:12] + content[12:29] + crc(content[12:29]) + content[33:])
    answer, more = peak_of(lambda: opened(folder.parent, "images"))
    assert answer == "refused"
    assert more < 60
    assert "pixels" in refused(lambda: opened(folder.parent, "images"))


def crc(content: bytes) -> bytes:
    import zlib

    return zlib.crc32(content).to_bytes(4, "big")


def test_a_program_in_the_clothes_of_an_image(folder: Path, refused: Any) -> None:
    """Pillow would hand PostScript to an interpreter, whatever the file's name says."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\n"
    (folder / "a" / "script.png").write_bytes(script)
    line = refused(lambda: opened(folder.parent, "images"))
    assert "script.png: cannot be decoded (cannot identify image file" in line


@pytest.mark.parametrize("kind", ["pipe", "socket", "zero", "loop", "gone", "folder"])
def test_what_is_no_image_file(kind: str, folder: Path, refused: Any) -> None:
    path = folder / "a" / "odd.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, 0o140666)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to({"zero": "/dev/zero", "loop": "odd.png", "gone": "nowhere"}[kind])
    assert "odd.png: cannot be read" in refused(lambda: opened(folder.parent, "images"))


def test_names_with_odd_characters(folder: Path, refused: Any) -> None:
    image = (folder / "a" / "0.png").read_bytes()
    for name in (b"new\nline.png", b"no-utf-8-\xff.png", b"\x1b[2J.png", "\u202egnp.png".encode(), b"-rf .png"):
        Path(os.fsdecode(os.fsencode(folder / "a") + b"/" + name)).write_bytes(image)
    opened(folder.parent, "images")
    for name in (b"new\nline", b"no-utf-8-\xff", b"\x1b[2J"):
        odd = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        odd.mkdir()
        (odd / "x.png").write_bytes(image)
        assert "characters in its name that cannot be printed" in refused(lambda: opened(folder.parent, "images"))
        (odd / "x.png").unlink()
        odd.rmdir()


def test_folders_that_lead_to_themselves(folder: Path) -> None:
    (folder / "a" / "again").symlink_to(folder / "a")
    (folder / "b" / "up").symlink_to(folder)
    try:
        opened(folder.parent, "images")
    except InputError as error:
        assert "\n" not in str(error)
