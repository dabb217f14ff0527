"""What is odd about a model's answers: near chance, constant, far under its training, classes in another order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paredown.stages.measuring.answers import Answers
from paredown.stages.measuring.doubts import doubts, is_weak

NUMBERS = tuple(map(str, range(12)))
AS_TEXT = sorted(range(12), key=str)


def _answers(classes: NDArray[np.int64], labels: NDArray[np.int64], kinds: int) -> Answers:
    return Answers(np.eye(kinds, dtype=np.float32)[classes], labels)


def _right(share: float, kinds: int, images: int, seed: int = 0) -> Answers:
    """A model that is right on a share of the images, and elsewhere answers any class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % kinds
    guessed = rng.integers(0, kinds, images)
    return _answers(np.where(rng.random(images) < share, labels, guessed), labels, kinds)


def _names(kinds: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(kinds))


@pytest.mark.parametrize("kinds", [2, 4, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_guessing_is_near_chance(kinds: int, seed: int) -> None:
    (line,) = doubts(_right(0, kinds, 400, seed), _names(kinds), "test")
    assert line.startswith("near chance: ")
    assert "of 400 test images are right" in line
    assert "usual causes: mean and std, crop_mode or image_size" in line


@pytest.mark.parametrize("kinds", [2, 4, 10, 100, 1000])
@pytest.mark.parametrize("share", [0.35, 0.5, 0.7, 0.9, 1])
@pytest.mark.parametrize("images", [256, 2000])
def test_a_sound_model_is_not_doubted(kinds: int, share: float, images: int) -> None:
    """Also with one image of each of 1000 classes, and as many wrong answers as right ones."""
    assert doubts(_right(share, kinds, images), _names(kinds), "test") == []


@pytest.mark.parametrize("seed", range(20))
def test_a_sound_model_on_few_images_is_not_doubted(seed: int) -> None:
    assert doubts(_right(0.85, 3, 45, seed), _names(3), "test") == []


def test_a_model_that_is_hardly_better_than_guessing() -> None:
    line, *rest = doubts(_right(0.12, 4, 4000), _names(4), "validation")
    assert "is little better than guessing (2" in line and not rest


@pytest.mark.parametrize("found", [4, 9, 20])
def test_few_of_a_rare_class_that_are_found_without_a_false_alarm_are_no_guessing(found: int) -> None:
    labels = np.repeat([0, 1], [600, 24])
    assert doubts(_answers(np.repeat([0, 1], [624 - found, found]), labels, 2), ("good", "bad"), "test") == []


def test_many_times_more_than_guessing_is_not_said_to_be_guessing() -> None:
    (line,) = doubts(_right(0.1, 1000, 4000), _names(1000), "test")
    assert "of 4000 test images are right, which is little; usual causes" in line


def test_one_answer_for_all_is_near_chance_also_where_it_is_mostly_right() -> None:
    labels = np.where(np.arange(200) % 5 == 0, 1, 0)
    (line,) = doubts(_answers(np.zeros(200, np.int64), labels, 2), ("good", "bad"), "test")
    assert line.startswith("constant: 100.00 % of 200 test images are answered 'good', and 80.00 % are of that class")
    few = labels.copy()
    few[np.flatnonzero(labels)[6:]] = 0  # 3 % are bad: one answer says little
    assert not any("constant" in line for line in doubts(_answers(np.zeros(200, np.int64), few, 2), "gb", "test"))


def test_numbers_that_sort_as_text() -> None:
    """The model has 0, 1, 2, ... 11; the folders are 0, 1, 10, 11, 2, ..."""
    names = tuple(NUMBERS[i] for i in AS_TEXT)
    labels = np.arange(240) % 12
    numbers = np.array(AS_TEXT)[labels]  # what the model answers: the number in the picture
    chance, line = doubts(_answers(numbers, labels, 12), names, "test")
    assert chance.startswith("near chance: 16.67 % of 240 test images are right, which is little better than guessing")
    assert "test images of '10' are answered '8', '11' are answered '9', '2' are answered '10'" in line
    assert "with 10 classes in that order 100.00 % would be right in place of 16.67 %; data.classes fixes it" in line


def test_two_classes_that_are_swapped() -> None:
    right = _right(0.9, 10, 400)
    swapped = np.array([0, 7, 2, 3, 4, 5, 6, 1, 8, 9])[right.labels]
    (line,) = doubts(Answers(right.logits, swapped), _names(10), "test")
    assert "'c1' are answered 'c7', 'c7' are answered 'c1'; with 2 classes in that order" in line
    opposite = doubts(_answers(1 - np.arange(40) % 2, np.arange(40) % 2, 2), ("no", "yes"), "test")
    assert opposite[0].startswith("near chance: 0.00 % of 40 test images")
    assert "'no' are answered 'yes', 'yes' are answered 'no'" in opposite[1]


def test_a_class_that_is_taken_for_another_is_no_other_order() -> None:
    right = _right(0.95, 10, 400)
    confused = np.where(right.labels == 3, 4, right.classes)
    assert doubts(_answers(confused, right.labels, 10), _names(10), "test") == []


def test_a_gap_to_training_is_told_where_overfitting_cannot_explain_it() -> None:
    training, kinds = _right(1, 10, 256), 10
    (line,) = doubts(_right(0.22, kinds, 400), _names(kinds), "test", training)
    assert line.startswith("far under its own training: ")
    assert "and 100.00 % of 256 training images; usual causes" in line
    assert doubts(_right(0.5, kinds, 400), _names(kinds), "test", training) == []
    assert is_weak(_right(0.22, kinds, 400)) and not is_weak(_right(0.5, kinds, 400))


def test_with_few_images_one_class_or_no_numbers_nothing_is_said() -> None:
    assert doubts(_right(0, 4, 19), _names(4), "test") == []
    assert doubts(_answers(np.ones(50, np.int64), np.zeros(50, np.int64), 2), "ab", "test") == []
    broken = Answers(np.full((50, 2), np.nan, np.float32), np.arange(50) % 2)
    assert doubts(broken, "ab", "test") == []
