"""What a training run came to: whether more epochs would bring more."""

import math
from collections.abc import Sequence

from paredown.stages.products.training_curve import TrainingEpoch


def still_rising(accuracies: Sequence[float], images: int) -> float:
    """Points on validation that the last quarter of the epochs brought, where these are more than `images` validation
    images differ by chance (one standard error), else 0. One epoch alone proves nothing, and brought all."""
    if not accuracies:
        return 0.0
    late = max(1, len(accuracies) // 4)
    before, best = max(accuracies[:-late], default=0.0), max(accuracies)
    share = min(max(best / 100, 0.0), 1.0)
    error = 100 * math.sqrt(share * (1 - share) / max(1, images))
    return best - before if best - before > error else 0.0


def rising_notes(curve: Sequence[TrainingEpoch], images: int) -> list[str]:
    """A line where the original's accuracy was still rising when its training ended: every limit is easier to hold
    against an original that is not at its best."""
    gained, late = still_rising([epoch.accuracy for epoch in curve], images), max(1, len(curve) // 4)
    if not gained:
        return []
    last = "its only epoch" if len(curve) == 1 else "the last epoch" if late == 1 else f"the last {late} epochs"
    seen = f"trained for {len(curve)} epochs, of which" if len(curve) > 1 else "trained for"
    brought = f"{last} still brought {gained:.2f} points" if len(curve) > 1 else last
    return [f"fit: {seen} {brought}: with more epochs the original, against which all is held, may be better"]


def where_best(accuracies: Sequence[float]) -> str:
    """`best after epoch 4 of 6, the last 2 brought nothing`."""
    best, count = accuracies.index(max(accuracies)) + 1, len(accuracies)
    rest = f", the last {count - best} brought nothing" if best < count else ""
    return f"best after epoch {best} of {count}{rest}"
