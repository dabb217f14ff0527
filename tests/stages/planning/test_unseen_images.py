"""Losses are measured on images that nothing was fitted to, and checked on others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paredown.models.data.dataset import ImageData, Split
from paredown.stages.base import State
from paredown.stages.planning.unseen_images import held_out_images, unseen_images
from paredown.stages.products.calibration import Calibration


def digests(split: Split) -> set[bytes]:
    return {image.tobytes() for image in np.asarray(split.images)}


def calibrated_on(state: State, images: int, folder: Path) -> State:
    Calibration({}, {}, (), False, (), {}, images).save(folder)
    return state.with_product("profile", folder)


def test_the_profile_says_on_how_many_images_it_calibrated(planned: State) -> None:
    assert Calibration.load(planned.product("profile")).images == 32


def test_none_of_the_images_that_were_calibrated_on(started: State, data: ImageData, tmp_path: Path) -> None:
    state = calibrated_on(started, 12, tmp_path)
    unseen = unseen_images(state, data, 15)
    assert len(unseen) == len(digests(unseen)) == 15
    assert not digests(unseen) & digests(data.calibration.take(12, state.seed))
    assert digests(unseen) <= digests(data.calibration)


def test_where_too_few_are_left_validation_gives_the_rest_but_never_the_held_out_half(
    started: State, data: ImageData, tmp_path: Path
) -> None:
    state = calibrated_on(started, 30, tmp_path)
    unseen, held_out = unseen_images(state, data, 100), held_out_images(state, data, 100)
    assert len(unseen) == 2 + 16
    assert len(held_out) == 16
    assert not digests(unseen) & digests(held_out)
    assert digests(held_out) <= digests(data.validation)


def test_the_held_out_images_are_as_many_as_were_asked_for(started: State, data: ImageData) -> None:
    assert len(held_out_images(replace(started, seed=3), data, 8)) == 8


@pytest.mark.parametrize("count", (8, 9, 12, 13))
def test_no_image_is_in_both_halves_whatever_classes_there_are(
    started: State, data: ImageData, tmp_path: Path, count: int
) -> None:
    """A class may have a smaller share of more images: `take(8)` has an image that `take(14)` has not."""
    labels = np.repeat(np.arange(7), (7, 3, 1, 1, 4, 4, 8))
    images = np.random.default_rng(0).integers(0, 256, (28, 24, 24, 3), dtype=np.uint8)
    unlike = replace(data, validation=Split(images, labels))
    state = calibrated_on(started, len(data.calibration), tmp_path)
    unseen, held_out = unseen_images(state, unlike, count), held_out_images(state, unlike, 28)
    assert (len(unseen), len(held_out)) == (count, 14)
    assert not digests(unseen) & digests(held_out)
