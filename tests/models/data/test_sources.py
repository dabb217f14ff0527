from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.dataset import Data
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.sources import square
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError

DATASETS = """
import random
import numpy as np
import torch
from PIL import Image

class Made:
    classes = ["down", "up"]

    def __init__(self, count, make, offset=0):
        self.count, self.make, self.offset = count, make, offset

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index + self.offset), index % 2

def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (3, 8, 8), dtype=np.uint8)

def tensors(): return Made(40, lambda i: torch.from_numpy(pixels(i)))
def floats(): return Made(40, lambda i: torch.from_numpy(pixels(i)) / 255)
def pictures(): return Made(40, lambda i: Image.fromarray(pixels(i).transpose(1, 2, 0)))
def split(): return {"train": tensors(), "val": Made(10, lambda i: torch.from_numpy(pixels(i)), 100)}
def odd(): return {"train": tensors(), "holdout": tensors()}
def normalised(): return Made(40, lambda i: torch.from_numpy(pixels(i)) / 255 - 1)
def last(): return Made(40, lambda i: torch.from_numpy(pixels(i)).permute(1, 2, 0))
def shaky(): return Made(40, lambda i: torch.from_numpy(pixels(random.randrange(10 ** 9))))
def number(): return 3
def broken(): raise RuntimeError("no disk")
"""


def _open(root: Path, source: str, size: int = 8) -> Data:
    return open_data(DataSpec(source=source, image_size=size), root, root / "cache", 0)


def _refused(root: Path, source: str) -> str:
    with pytest.raises(InputError) as caught:
        _open(root, source)
    assert "\n" not in str(caught.value)
    assert not list((root / "cache").glob("*")) if (root / "cache").exists() else True
    return str(caught.value)


def _folder(root: Path, **counts: int) -> Path:
    for kind, count in counts.items():
        folder = root / "images" / kind
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, count, ord(kind))).save(folder / f"{i}.png")
    return root / "images"


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'}: no such folder" in _refused(tmp_path, "none")
    base = _folder(tmp_path, a=5)
    assert "one class only (a)" in _refused(tmp_path, "images")
    (base / "b").mkdir()
    assert "class 'b' has 0 different images for 4 splits" in _refused(tmp_path, "images")
    (tmp_path / "empty" / "x").mkdir(parents=True)
    assert "no images: it must hold one folder per class" in _refused(tmp_path, "empty")


def test_a_class_needs_a_different_image_for_every_split(tmp_path: Path) -> None:
    base = _folder(tmp_path, a=4, b=3)
    (base / "b" / "twin.png").write_bytes((base / "b" / "0.png").read_bytes())
    assert "class 'b' has 3 different images for 4 splits" in _refused(tmp_path, "images")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(base / "b" / "twin.png")
    data = _open(tmp_path, "images")
    assert all(sorted(s.labels) == [0, 1] for s in (data.train, data.calibration, data.validation, data.test))


def test_broken_images_are_named(tmp_path: Path) -> None:
    base = _folder(tmp_path, a=5, b=5)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(base / "a" / "cut.jpg")
    whole = (base / "a" / "cut.jpg").read_bytes()
    for content in (whole[: len(whole) // 2], b"not an image", b""):
        (base / "a" / "cut.jpg").write_bytes(content)
        assert f"{base / 'a' / 'cut.jpg'}: cannot be decoded" in _refused(tmp_path, "images")
    (base / "a" / "cut.jpg").unlink()
    (base / "a" / "folder.png").mkdir()
    assert f"{base / 'a' / 'folder.png'}: cannot be read" in _refused(tmp_path, "images")


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    base = _folder(tmp_path, a=5, b=5)
    (base / "a" / "._0.png").write_bytes(b"resource fork")
    (base / "a" / "notes.txt").write_text("x")
    (base / ".git").mkdir()
    data = _open(tmp_path, "images")
    assert data.classes == ("a", "b")
    assert sum(map(len, (data.train, data.calibration, data.validation, data.test))) == 10


def test_images_of_any_mode_and_shape_become_centred_squares() -> None:
    wide = Image.new("RGB", (40, 10), (255, 0, 0))
    wide.paste((0, 0, 255), (15, 0, 25, 10))
    assert np.array_equal(square(wide, 10), np.full((10, 10, 3), (0, 0, 255)))
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(square(tall, 10), np.full((10, 10, 3), (0, 0, 255)))
    assert square(Image.new("L", (8, 8), 7), 8).tolist() == np.full((8, 8, 3), 7).tolist()
    for mode in ("1", "P", "LA", "RGBA", "CMYK"):
        assert square(Image.new(mode, (9, 9)), 4).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="more than 8 bits"):
        square(Image.new("I;16", (8, 8)), 8)


def test_scaling_down_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(square(Image.fromarray(stripes), 8).astype(int) - 127).max() <= 8


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_arrays_open(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels, classes=np.array(["no", "yes"]))
    data = _open(tmp_path, "x.npz")
    assert data.classes == ("no", "yes")
    coloured = np.broadcast_to(images.reshape(40, 8, 8, -1), (40, 8, 8, 3))
    wanted = {(image.tobytes(), label) for image, label in zip(coloured, labels, strict=True)}
    assert {(i.tobytes(), j) for i, j in zip(data.train.images, data.train.labels, strict=True)} < wanted


GOOD: dict[str, Any] = {"images": np.zeros((8, 4, 4), np.uint8), "labels": np.arange(8) % 2}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"images": np.zeros((8, 4, 4), np.float32)}, "images is float32 (8, 4, 4); allowed: uint8"),
        ({"images": np.zeros((8, 4, 4, 4), np.uint8)}, "images is uint8 (8, 4, 4, 4)"),
        ({"labels": np.zeros(7, np.int64)}, "labels is int64 (7,); allowed: integers of shape (8,)"),
        ({"labels": np.zeros(8)}, "labels is float64 (8,)"),
        ({"labels": np.arange(8) - 1}, "labels are -1 to 6"),
        ({"classes": np.array(["a"])}, "labels are 0 to 1; allowed: 0 to 0"),
        ({"labels": np.zeros(8, np.int64)}, "one class only (0)"),
        ({"images": np.array([None] * 8)}, "cannot be read as an .npz file"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, np.int64)}, "no images"),
    ],
)
def test_arrays_that_cannot_be_used_say_why(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    np.savez(tmp_path / "x.npz", **{**GOOD, **change})
    assert text in _refused(tmp_path, "x.npz")


def test_array_files_that_are_not_there_or_broken_say_so(tmp_path: Path) -> None:
    assert "no such file" in _refused(tmp_path, "none.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut")
    assert "x.npz: cannot be read" in _refused(tmp_path, "x.npz")
    np.savez(tmp_path / "x.npz", labels=np.zeros(3))
    assert "needs the arrays images and labels; it has labels" in _refused(tmp_path, "x.npz")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "made.py").write_text(DATASETS)
    return tmp_path


def _all(data: Data) -> set[bytes]:
    splits = (data.train, data.calibration, data.validation, data.test)
    return {image.tobytes() for split in splits for image in split.images}


def test_datasets_of_tensors_and_pictures_open_alike(made: Path) -> None:
    opened = [_open(made, f"made.py:{name}") for name in ("tensors", "floats", "pictures")]
    assert all(data.classes == ("down", "up") and len(data.train) == 22 for data in opened)
    assert _all(opened[0]) == _all(opened[1]) == _all(opened[2]) == {_pixels(i) for i in range(40)}


def _pixels(seed: int) -> bytes:
    made = np.random.default_rng(seed).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    return made.transpose(1, 2, 0).tobytes()


def test_datasets_by_split_keep_their_test_split(made: Path) -> None:
    data = _open(made, "made.py:split")
    assert {image.tobytes() for image in data.test.images} == {_pixels(i + 100) for i in range(10)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none", "no function 'none'"),
        ("odd", "returned train, holdout; allowed: train and calibration, validation, test"),
        ("normalised", "allowed: 0 to 1, not normalised"),
        ("last", "got uint8 (8, 8, 3); allowed: a PIL image, or (3 or 1, H, W)"),
        ("shaky", "another image each time: leave changes to data.augment"),
        ("number", "returned int, not a dataset with a length"),
        ("broken", "raised RuntimeError: no disk"),
    ],
)
def test_datasets_that_cannot_be_used_say_why(made: Path, name: str, text: str) -> None:
    assert text in _refused(made, f"made.py:{name}")


def test_a_dataset_s_fingerprint_follows_its_contents(made: Path) -> None:
    def now() -> str:
        return fingerprint_data(DataSpec(source="made.py:tensors", image_size=8), made, 0)

    before = now()
    assert now() == before
    (made / "made.py").write_text(DATASETS.replace("default_rng(i)", "default_rng(i + 1)"))
    assert now() != before
