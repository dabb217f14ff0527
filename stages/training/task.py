"""What a training run needs: images, a schedule and a loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paredown.models.compression.sparsity_masks import SparsityMasks
from paredown.models.data.dataset import ImageData
from paredown.models.network.logits import logits_behind
from paredown.models.progress import Progress
from paredown.stages.training.schedule import Schedule

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Of the module in training mode, a batch of images (N, 3, H, W) and its labels (N,)."""


@dataclass(frozen=True)
class TrainingTask:
    """What a training run needs beside the module; its checkpoints go into `folder`, whether this machine is faster in
    bf16 into `cache`."""

    phase: str
    data: ImageData
    schedule: Schedule
    loss: Loss
    folder: Path
    cache: Path
    seed: int
    progress: Progress
    masks: SparsityMasks = field(default_factory=SparsityMasks)


def supervised_loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with a little label smoothing."""
    return cross_entropy(logits_behind(module, images), labels, label_smoothing=0.05)
