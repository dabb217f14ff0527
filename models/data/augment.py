"""Random flips, symmetries and shifts of a whole batch at once."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""(images, height, width, 3), square."""


def augment_batch(images: Images, kind: str, rng: Generator) -> Images:
    """A changed copy: `flip` mirrors half of the images, `dihedral` gives each one of the 8 symmetries of the square.

    Both then shift by up to 1/16 of the side in each direction, with the border reflected. `none` changes
    nothing.
    """
    if kind == "none":
        return images
    count, side = images.shape[:2]
    if kind == "dihedral":
        turned = rng.random((count, 1, 1, 1)) < 0.5
        images = np.where(turned, images.transpose(0, 2, 1, 3), images)
    rows = _positions(count, side, rng, flip=kind == "dihedral")
    columns = _positions(count, side, rng, flip=True)
    return _gather(images, rows, columns)


def _positions(count: int, side: int, rng: Generator, flip: bool) -> NDArray[np.intp]:
    """(count, side): which row (or column) of the image each row of the result is taken from."""
    most = side // 16
    shift = rng.integers(-most, most + 1, (count, 1))
    below = np.abs(np.arange(side) + shift)
    reflected = side - 1 - np.abs(side - 1 - below)
    mirrored = (rng.random((count, 1)) < 0.5) & flip
    positions: NDArray[np.intp] = np.where(mirrored, side - 1 - reflected, reflected)
    return positions


def _gather(images: Images, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Images:
    """`images[i, rows[i, y], columns[i, x]]` for all i, y and x."""
    count, side = rows.shape
    pixel = (np.arange(count)[:, None, None] * side + rows[:, :, None]) * side + columns[:, None, :]
    gathered: Images = images.reshape(-1, 3).take(pixel, axis=0)
    return gathered
