"""What a recipe's model answers on some images before any work, and what is odd about that."""

import numpy as np
import torch
from torch import nn

from paredown.models.data.dataset import ImageData, Split
from paredown.models.network.shape import device_of
from paredown.stages.measuring.answers import Answers
from paredown.stages.measuring.doubts import doubts, is_weak

IMAGES = 256
"""That the model is tried on, at most, of each split."""
_BATCH = 32


def answer_doubts(module: nn.Module, data: ImageData, seed: int) -> list[str]:
    """Lines on validation images whose answers look wrong as a whole; none where nothing is odd.

    `module` answers with logits (images, classes) and is in evaluation mode. Training images are looked at only where
    it is weak, and no test image is.
    """
    answers = _answers(module, data, data.validation.take(IMAGES, seed))
    training = _answers(module, data, data.train.take(IMAGES, seed)) if is_weak(answers) else None
    return doubts(answers, data.classes, "validation", training)


def _answers(module: nn.Module, data: ImageData, split: Split) -> Answers:
    with torch.no_grad():
        logits = [
            module(torch.from_numpy(images).to(device_of(module))).float().cpu().numpy()
            for images, _ in data.batches(split, _BATCH)
        ]
    return Answers(np.concatenate(logits), np.asarray(split.labels))
