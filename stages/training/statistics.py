"""Statistics of batch norms, estimated for the weights that they stand beside."""

import itertools
from dataclasses import replace

from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.network.batch_norm import reestimate_statistics
from paredown.stages.training.device import training_device

BATCHES = 16
"""Of 32 images."""


def reestimate_batch_norm(module: nn.Module, data: ImageData, batches: int = BATCHES, seed: int = 0) -> None:
    """Replaces the batch norms' statistics by averages over the first `batches` batches of 32 training images.

    The images are as the finished network will see them, not augmented: on those an unchanged MobileNetV2 comes out
    nearer to what it was.
    """
    few = itertools.islice(replace(data, augment="none").training_batches(32, 0, seed), batches)
    reestimate_statistics(module, (images.to(training_device()) for images, _, _ in few))


def has_statistics(module: nn.Module) -> bool:
    """Whether any batch norm keeps running statistics."""
    norms = (one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm))
    return any(norm.running_mean is not None for norm in norms)
