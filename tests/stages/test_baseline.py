"""What the baseline says of the original beside its numbers."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from paredown.models.data.spec import DataSpec
from paredown.models.loading.spec import ModelSpec
from paredown.stages.base import State
from paredown.stages.products.product_files import read_notes

COLOURS = """
import torch

def model(classes):
    conv = torch.nn.Conv2d(3, 3, 1, bias=False)
    conv.weight.data = torch.eye(3)[:, :, None, None]
    return torch.nn.Sequential(conv, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
"""

Notes = Callable[[NDArray[np.uint8], NDArray[np.int64]], tuple[str, ...]]


@pytest.fixture
def notes(started: State, run: Callable[..., State], tmp_path: Path) -> Notes:
    """The warnings of a baseline that answers with the brightest channel, on images and their labels."""
    (tmp_path / "colours.py").write_text(COLOURS)
    shutil.copy(started.root / "exact.py", tmp_path)

    def of(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[str, ...]:
        np.savez(tmp_path / "images.npz", images=images, labels=labels)
        own: dict[str, Any] = {"root": tmp_path, "cache": tmp_path / "cache", "out": tmp_path, "products": {}}
        model, data = ModelSpec(source="colours.py:model"), DataSpec(source="images.npz", image_size=8)
        made = run(replace(started, model=model, data=data, **own), "baseline", rounds=1, runs=1)
        return read_notes(made.product("baseline").parent)

    return of


@pytest.fixture
def coloured() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    labels = np.arange(240) % 3
    images = np.random.default_rng(0).integers(0, 80, (240, 8, 8, 3)).astype(np.uint8)
    images[np.arange(240), ..., labels] += 120
    return images, labels


def test_a_sound_original_is_not_doubted(notes: Notes, coloured: tuple[Any, Any]) -> None:
    assert notes(*coloured) == ()


def test_classes_in_another_order_are_warned_of_on_both_splits(notes: Notes, coloured: tuple[Any, Any]) -> None:
    images, labels = coloured
    lines = notes(images, (labels + 1) % 3)
    assert [line[: line.index(" images")] for line in lines] == [
        "the original: near chance: 0.00 % of 36 validation",
        "the original: the model may have its classes in another order: validation",
        "the original: near chance: 0.00 % of 60 test",
        "the original: the model may have its classes in another order: test",
    ]


def test_a_label_that_contradicts_another_is_a_warning_of_the_run(notes: Notes, coloured: tuple[Any, Any]) -> None:
    images, labels = coloured
    images[1] = images[0]
    (line,) = notes(images, labels)
    assert line.startswith("1 image is in two classes at once, such as ")
    assert "images.npz: image 0 and " in line and "images.npz: image 1:" in line
