"""Torch datasets of a user's function."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data
from paredown.models.data.spec import DataSpec

OpenSource = Callable[..., ImageData]
RefusalOf = Callable[[Path, str], str]

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


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "made.py").write_text(DATASETS)
    return tmp_path


def _all(data: ImageData) -> set[bytes]:
    splits = (data.train, data.calibration, data.validation, data.test)
    return {image.tobytes() for split in splits for image in split.images}


def test_datasets_of_tensors_and_pictures_open_alike(made: Path, open_source: OpenSource) -> None:
    opened = [open_source(made, f"made.py:{name}") for name in ("tensors", "floats", "pictures")]
    assert all(data.classes == ("down", "up") and len(data.train) == 22 for data in opened)
    assert _all(opened[0]) == _all(opened[1]) == _all(opened[2]) == {_pixels(i) for i in range(40)}


def _pixels(seed: int) -> bytes:
    made = np.random.default_rng(seed).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    return made.transpose(1, 2, 0).tobytes()


def test_datasets_by_split_keep_their_test_split(made: Path, open_source: OpenSource) -> None:
    data = open_source(made, "made.py:split")
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
def test_datasets_that_cannot_be_used_say_why(made: Path, name: str, text: str, refusal_of: RefusalOf) -> None:
    assert text in refusal_of(made, f"made.py:{name}")


def test_a_dataset_s_fingerprint_follows_its_contents(made: Path) -> None:
    def now() -> str:
        return fingerprint_data(DataSpec(source="made.py:tensors", image_size=8), made, 0)

    before = now()
    assert now() == before
    (made / "made.py").write_text(DATASETS.replace("default_rng(i)", "default_rng(i + 1)"))
    assert now() != before
