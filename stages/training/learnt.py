"""Whether a network could be trained at all: its losses and its weights are finite."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from paredown.models.errors import InputError
from paredown.stages.products.training_curve import TrainingCurve


def check_learnt(folder: Path) -> None:
    """Raises InputError where a loss or a weight in a product that a training left is not finite, with the phase or the
    weight's name."""
    for epoch in TrainingCurve.load(folder).epochs:
        if not math.isfinite(epoch.loss):
            raise InputError(f"the loss of a training step is {epoch.loss} (phase {epoch.phase})")
    for name, weight in load_file(folder / "weights.safetensors").items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise InputError(f"after a training step the weights of {name} are not finite")
