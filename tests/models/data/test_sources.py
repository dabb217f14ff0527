"""Images of any mode and shape as squares of three channels."""

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.framing import Framing
from paredown.models.data.sources import square_image


def test_images_of_any_mode_and_shape_become_centred_squares() -> None:
    wide = Image.new("RGB", (40, 10), (255, 0, 0))
    wide.paste((0, 0, 255), (15, 0, 25, 10))
    assert np.array_equal(square_image(wide, Framing(10)), np.full((10, 10, 3), (0, 0, 255)))
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(square_image(tall, Framing(10)), np.full((10, 10, 3), (0, 0, 255)))
    assert square_image(Image.new("L", (8, 8), 7), Framing(8)).tolist() == np.full((8, 8, 3), 7).tolist()
    for mode in ("1", "P", "LA", "RGBA", "CMYK"):
        assert square_image(Image.new(mode, (9, 9)), Framing(4)).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="more than 8 bits"):
        square_image(Image.new("I;16", (8, 8)), Framing(8))


def test_scaling_down_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(square_image(Image.fromarray(stripes), Framing(8)).astype(int) - 127).max() <= 8
