"""What a model file answers on the images of a split, and how often it is right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.dataset import ImageData, Split
from paredown.stages.base import State
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.evidence import AccuracyScores


def logits_of(model: Path, data: ImageData, split: Split, state: State) -> NDArray[np.float32]:
    """(images, classes) that the target's runtime computes of a split, in order."""
    batches = (images for images, _ in data.batches(split, state.target.batch))
    return runtime_of(state).run(model, batches, threads=state.target.threads)


def accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """The share of the images whose class is right, in points, 0 to 100; both are (images,)."""
    return 100 * float((answers == labels).mean())


def scores_of(
    model: Path, state: State, data: ImageData, splits: Sequence[str] = ("validation", "test")
) -> AccuracyScores:
    """A model file's accuracy on the named splits."""
    named = {name: data.splits[name] for name in splits}
    return AccuracyScores(
        accuracy={
            name: accuracy(logits_of(model, data, split, state).argmax(1), split.labels)
            for name, split in named.items()
        },
        images={name: len(split) for name, split in named.items()},
    )
