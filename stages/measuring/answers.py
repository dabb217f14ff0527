"""What a model answered on labelled images, as arrays: how often it is right, and what cannot count as an answer."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NO_CLASS = -1
"""Stands for the class of an image whose logits say nothing."""
LEAST_SPREAD = 1e-12
"""Of logits: what answers the same to all classes still divides."""
FEW = 3
"""Images of other classes from which on one answer for all images is a fault of the model, and not of chance."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The `logits` (images, classes) of a split's images, beside the right `labels` (images,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The class of every image, (images,); `NO_CLASS` where not all of its logits are finite."""
        return np.where(self.finite, np.where(self.finite[:, None], self.logits, 0).argmax(1), NO_CLASS)

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """Of every image whether all of its logits are finite, (images,)."""
        return np.asarray(np.isfinite(self.logits).all(1))

    @property
    def accuracy(self) -> float:
        """Points, 0 to 100; an image without an answer is a wrong one."""
        return accuracy(self.classes, self.labels)

    @property
    def unanswered(self) -> int:
        """How many images have logits that are not all finite."""
        return int((~self.finite).sum())

    def not_finite(self, split: str) -> str:
        """`3 of 40 test images: logits are not finite`; empty where all of them are."""
        counts = f"{self.unanswered:,} of {len(self.labels):,} {split} images"
        return f"{counts}: logits are not finite (NaN or infinite)" if self.unanswered else ""

    @property
    def only_class(self) -> int | None:
        """The class that is the answer for all images, at least `FEW` of which are of others; else None."""
        first = int(self.classes[0])
        constant = first != NO_CLASS and bool((self.classes == first).all())
        return first if constant and int((self.labels != first).sum()) >= FEW else None

    def agreement(self, other: "Answers") -> float:
        """The share (0 to 1) of images that both answer alike; where one of them has no answer they do not."""
        return float(((self.classes == other.classes) & (self.classes != NO_CLASS)).mean())

    def difference(self, wanted: "Answers") -> float:
        """How far the logits lie from the `wanted` ones, as a share of how far those spread: root mean squares, of what
        is left when each image's mean is taken off, as a number that all classes share decides nothing."""
        own, theirs = (one.logits - one.logits.mean(1, keepdims=True, dtype=np.float64) for one in (self, wanted))
        apart, spread = (float(np.sqrt((values**2).mean())) for values in (own - theirs, theirs))
        return apart / max(spread, LEAST_SPREAD)


def accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """The share of the images whose class is right, in points, 0 to 100; both are (images,)."""
    return 100 * float((answers == labels).mean())
