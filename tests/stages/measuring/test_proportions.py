"""Intervals of shares, of how two models differ on the same images, and what these images can tell."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from paredown.stages.measuring.answers import Answers
from paredown.stages.measuring.proportions import (
    accuracy_change,
    accuracy_ends,
    images_to_tell,
    paired_change,
    resolution,
    wilson_ends,
)


@pytest.mark.parametrize(("right", "images"), [(0, 7), (7, 7), (1, 1), (557, 656), (40, 48)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_shares_have_the_interval_that_scipy_gives_them(right: int, images: int, confidence: float) -> None:
    expected = binomtest(right, images).proportion_ci(confidence, method="wilson")
    assert wilson_ends(right / images, images, confidence) == pytest.approx((expected.low, expected.high))
    low, high = accuracy_ends(100 * right / images, images, confidence)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high))


def answers(right: list[int]) -> Answers:
    """Of two classes, all images of the first one; 1 is a right answer."""
    logits = np.array([[1.0, 0.0] if one else [0.0, 1.0] for one in right], np.float32)
    return Answers(logits, np.zeros(len(right), np.int64))


def test_a_change_counts_what_only_one_of_the_two_has_right() -> None:
    change = accuracy_change(answers([1, 1, 1, 0, 0, 1]), answers([0, 0, 1, 1, 0, 1]))
    assert (change.lost, change.gained, change.images) == (2, 1, 6)
    assert change.points.value == pytest.approx(-100 / 6)
    assert change.points.low < -100 / 6 < change.points.high


def test_models_that_never_differed_are_not_taken_for_equal() -> None:
    few, many = paired_change(0, 0, 40), paired_change(0, 0, 4000)
    assert few.value == 0 and few.low < -5 and few.high > 5
    assert -0.15 < many.low < 0 < many.high < 0.15


@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.05), (0.04, 0.01), (0.01, 0.0), (0.2, 0.1)])
def test_the_interval_of_a_change_holds_the_truth_as_often_as_it_says(lost: float, gained: float) -> None:
    """Over all that 60 images can show, each with its probability."""
    images, held = 60, 0.0
    for a, b in product(range(images + 1), repeat=2):
        chance = (
            multinomial.pmf([a, b, images - a - b], images, [lost, gained, 1 - lost - gained]) if a + b <= 60 else 0
        )
        if chance > 1e-9 and paired_change(a, b, images, 0.95).holds(100 * (gained - lost)):
            held += float(chance)
    assert held >= 0.945


def test_as_many_images_as_it_says_prove_a_limit_in_four_of_five_tests() -> None:
    images = images_to_tell(1.0, 0.05, 0.95)
    rng = np.random.default_rng(0)
    shown = rng.multinomial(images, [0.025, 0.025, 0.95], 2000)
    proved = [paired_change(lost, gained, images, 0.95).low >= -1.0 for lost, gained, _ in shown]
    assert np.mean(proved) == pytest.approx(0.8, abs=0.04)


def test_what_images_cannot_tell_is_said_with_how_many_could() -> None:
    assert resolution(1.0, 656, 0.0333, 0.95) == "656 images cannot tell 1 point; about 2,700 could"
    assert resolution(2.5, 100, 0.05) == "100 images cannot tell 2.5 points; about 940 could"
    assert resolution(1.0, 10**6, 0.05) == ""
    assert resolution(0.0, 10**6, 0.05) == "1,000,000 images cannot tell 0 points: no number of images can"
    assert resolution(1e-200, 656, 0.05).endswith("no number of images can")
    assert math.isclose(images_to_tell(1.0, 0.1) / images_to_tell(2.0, 0.1), 4, rel_tol=0.01)
