"""What counts as an answer."""

import numpy as np
import pytest

from paredown.stages.measuring.answers import NO_CLASS, Answers

NAN, INF = float("nan"), float("inf")


def answers(logits: list[list[float]], labels: list[int]) -> Answers:
    return Answers(np.array(logits, np.float32), np.array(labels))


def test_an_image_whose_logits_are_not_finite_is_a_wrong_one() -> None:
    one = answers([[NAN, NAN], [2, 1], [INF, 0], [0, 1]], [0, 0, 0, 1])
    assert one.classes.tolist() == [NO_CLASS, 0, NO_CLASS, 1]
    assert one.accuracy == 50
    assert one.unanswered == 2
    assert one.not_finite("test") == "2 of 4 test images: logits are not finite (NaN or infinite)"
    assert answers([[0, 1]], [0]).not_finite("test") == ""


def test_two_models_agree_where_both_answer_alike() -> None:
    one, other = answers([[NAN, 0], [2, 1], [0, 1]], [0, 0, 0]), answers([[NAN, 0], [5, 1], [1, 0]], [0, 0, 0])
    assert one.agreement(other) == 1 / 3


def test_the_difference_is_a_share_of_the_spread_and_not_of_what_all_classes_share() -> None:
    wanted = answers([[3, 5], [1, -1]], [0, 0])
    assert answers([[103, 105], [11, 9]], [0, 0]).difference(wanted) == 0
    assert answers([[3, 5.5], [1.5, -1]], [0, 0]).difference(wanted) == pytest.approx(0.25)
    assert answers([[2, 2], [2, 2]], [0, 0]).difference(wanted) == pytest.approx(1)
    assert wanted.difference(answers([[2, 2], [2, 2]], [0, 0])) > 1e6


def test_one_answer_for_all_images_is_told_where_labels_differ() -> None:
    logits = [[1.0, 0.0]] * 10
    assert answers(logits, [0] * 7 + [1] * 3).only_class == 0
    assert answers(logits, [0] * 10).only_class is None
    assert answers(logits, [0] * 8 + [1] * 2).only_class is None  # two errors are no proof
    assert answers([*logits[:9], [0.0, 1.0]], [0] * 7 + [1] * 3).only_class is None
    assert answers([[NAN, NAN]] * 10, [0] * 7 + [1] * 3).only_class is None
