"""Images that nothing was fitted to: those that losses are measured on, and others that they are checked on.

Weights that make up for removed channels are fitted to the calibration images that `profile` takes. On these a narrowed
network answers better than on any others, by up to ten times in nats, so that losses measured on them are too small.
"""

import numpy as np

from paredown.models.data.dataset import ImageData, Split
from paredown.stages.base import State
from paredown.stages.products.calibration import Calibration


def unseen_images(state: State, data: ImageData, count: int) -> Split:
    """`count` images that `profile` did not calibrate on: of the split of calibration, and where it has too few left,
    of the first half of validation's."""
    fitted = Calibration.load(state.product("profile")).images
    left = data.calibration.beyond(fitted, count, state.seed)
    more = data.validation.within(_half(data), count - len(left), state.seed)
    images, labels = np.concatenate([left.images, more.images]), np.concatenate([left.labels, more.labels])
    return Split(images, labels)


def held_out_images(state: State, data: ImageData, count: int) -> Split:
    """`count` images (all, if there are fewer) of the second half of validation's, which no loss is measured on."""
    return data.validation.beyond(_half(data), count, state.seed)


def _half(data: ImageData) -> int:
    return len(data.validation) // 2
