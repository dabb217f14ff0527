"""Flips, symmetries and shifts of a batch."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paredown.models.data.augment import augment_batch


def _image(seed: int, size: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flip", 2), ("dihedral", 8)])
def test_augmentation_gives_exactly_the_symmetries_it_names(kind: str, count: int) -> None:
    image = _image(0, size=8)
    batch = np.repeat(image[None], 200, axis=0)
    seen = {one.tobytes() for one in augment_batch(batch, kind, np.random.default_rng(0))}
    flips = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    whole = [one.tobytes() for one in flips] + [one.transpose(1, 0, 2).tobytes() for one in flips]
    assert seen == set(whole[:count])
    assert np.array_equal(batch, np.repeat(image[None], 200, axis=0))


def test_augmentation_shifts_by_up_to_a_sixteenth_and_reflects_the_border() -> None:
    column = np.arange(32, dtype=np.uint8)
    batch = np.repeat(np.tile(column[None, :, None], (32, 1, 3))[None], 200, axis=0)
    rows = {tuple(one[0, :, 0].tolist()) for one in augment_batch(batch, "flip", np.random.default_rng(0))}
    shifted = {tuple(np.pad(column, 2, mode="reflect")[start : start + 32].tolist()) for start in range(5)}
    assert rows == shifted | {tuple(reversed(row)) for row in shifted}
