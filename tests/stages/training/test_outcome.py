"""Whether a training had come to its end."""

from collections.abc import Sequence

import pytest

from paredown.stages.products.training_curve import TrainingEpoch
from paredown.stages.training.outcome import rising_notes, still_rising, where_best


@pytest.mark.parametrize(
    ("accuracies", "images", "gained"),
    [
        ([60.0], 100, 60.0),  # nothing to compare with
        ([60.0, 80.0], 100, 20.0),
        ([60.0, 80.0, 80.0, 80.0], 100, 0.0),
        ([60.0, 80.0, 80.0, 82.0], 100, 0.0),  # two of a hundred images: chance
        ([60.0, 80.0, 80.0, 82.0], 10_000, 2.0),
        ([60.0, 90.0, 80.0, 85.0], 10_000, 0.0),
        ([], 100, 0.0),
    ],
)
def test_what_the_last_epochs_brought(accuracies: Sequence[float], images: int, gained: float) -> None:
    assert still_rising(accuracies, images) == pytest.approx(gained)


def _curve(*accuracies: float) -> list[TrainingEpoch]:
    return [TrainingEpoch("fit", place, 1.0, points, 1.0) for place, points in enumerate(accuracies, 1)]


def test_only_a_rising_accuracy_is_noted() -> None:
    assert rising_notes(_curve(60, 80, 80, 80), 100) == []
    (line,) = rising_notes(_curve(60, 70, 75, 90), 100)
    assert line.startswith("fit: trained for 4 epochs, of which the last epoch still brought 15.00 points")
    (line,) = rising_notes(_curve(60), 100)
    assert line.startswith("fit: trained for its only epoch")


def test_where_the_best_was() -> None:
    assert where_best([60.0, 80.0, 80.0, 70.0]) == "best after epoch 2 of 4, the last 2 brought nothing"
    assert where_best([60.0, 80.0]) == "best after epoch 2 of 2"
