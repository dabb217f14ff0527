"""Images in .npz files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.models.data.dataset import ImageData

OpenSource = Callable[..., ImageData]
RefusalOf = Callable[[Path, str], str]

GOOD: dict[str, Any] = {"images": np.zeros((8, 4, 4), np.uint8), "labels": np.arange(8) % 2}


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_arrays_open(tmp_path: Path, shape: tuple[int, ...], open_source: OpenSource) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels, classes=np.array(["no", "yes"]))
    data = open_source(tmp_path, "x.npz")
    assert data.classes == ("no", "yes")
    coloured = np.broadcast_to(images.reshape(40, 8, 8, -1), (40, 8, 8, 3))
    wanted = {(image.tobytes(), label) for image, label in zip(coloured, labels, strict=True)}
    assert {(i.tobytes(), j) for i, j in zip(data.train.images, data.train.labels, strict=True)} < wanted


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
def test_arrays_that_cannot_be_used_say_why(
    tmp_path: Path, change: dict[str, Any], text: str, refusal_of: RefusalOf
) -> None:
    np.savez(tmp_path / "x.npz", **{**GOOD, **change})
    assert text in refusal_of(tmp_path, "x.npz")


def test_array_files_that_are_not_there_or_broken_say_so(tmp_path: Path, refusal_of: RefusalOf) -> None:
    assert "no such file" in refusal_of(tmp_path, "none.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut")
    assert "x.npz: cannot be read" in refusal_of(tmp_path, "x.npz")
    np.savez(tmp_path / "x.npz", labels=np.zeros(3))
    assert "needs the arrays images and labels; it has labels" in refusal_of(tmp_path, "x.npz")
