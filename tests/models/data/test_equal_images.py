"""Leaks between splits, and images of two classes: how many, and one pair."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from paredown.models.data.dataset import ImageData
from paredown.models.data.equal_images import EqualImages, find_equal

OpenSource = Callable[..., ImageData]


def _contents(text: str) -> list[bytes]:
    return [letter.encode() for letter in text]


def test_leaks_are_counted_for_the_split_that_loses_them() -> None:
    parts = {"train": np.arange(5), "test": np.arange(5, 8), "validation": np.arange(8, 10)}
    found = list(find_equal(parts, np.zeros(10, np.int64), _contents("abbcd" + "bxb" + "ca")))
    assert found == [
        EqualImages(("train", "validation"), 2, (0, 9)),
        EqualImages(("train", "test"), 2, (1, 5)),
    ]


def test_images_of_two_classes_are_counted_once_each() -> None:
    labels = np.array([0, 1, 1, 0, 1, 1])
    found = list(find_equal({"train": np.arange(6)}, labels, _contents("aaabcc")))
    assert found == [EqualImages((), 1, (0, 1))]


def _save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def test_a_leak_and_a_contradiction_are_named_also_from_the_cache(tmp_path: Path, open_source: OpenSource) -> None:
    base = tmp_path / "images"
    for part, kinds in (("train", "ab"), ("test", "ab")):
        for kind in kinds:
            for i in range(6):
                _save(base / part / kind / f"{i}.png", 100 * ord(part[1]) + 10 * ord(kind) + i)
    assert open_source(tmp_path, "images").notes == ()
    _save(base / "train" / "a" / "leak.bmp", 7)
    _save(base / "test" / "a" / "same.png", 7)
    _save(base / "train" / "a" / "one.png", 9)
    _save(base / "train" / "b" / "two.png", 9)
    for _ in range(2):  # decoded, and from the cache
        data = open_source(tmp_path, "images")
        assert data.dropped == 1
        leak, contradiction = data.notes
        pair = f"{base / 'train/a/leak.bmp'} and {base / 'test/a/same.png'}"
        assert leak == f"1 image is of train in test as well, such as {pair}; left out of train"
        pair = f"{base / 'train/a/one.png'} and {base / 'train/b/two.png'}"
        assert contradiction == f"1 image is in two classes at once, such as {pair}: one of the labels is wrong"


def test_images_that_an_earlier_version_decoded_open_without_notes(tmp_path: Path, open_source: OpenSource) -> None:
    for kind in "ab":
        for i in range(6):
            _save(tmp_path / "images" / kind / f"{i}.png", i + (10 * ord(kind) if i else 0))
    data = open_source(tmp_path, "images")
    assert len(data.notes) == 1
    (tmp_path / "cache" / data.fingerprint / "equal-images.json").unlink()
    assert open_source(tmp_path, "images").notes == ()
