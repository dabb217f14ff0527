"""Applies the plan to the user's own module, and lets its batch norms see the new activations."""

import itertools
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from paredown.models.data import Data, open_data
from paredown.models.spec import Spec
from paredown.stages.base import State
from paredown.stages.original import save_weights
from paredown.stages.student import surgery


class Compress(Spec):
    """Surgery on the original, then batch-norm statistics estimated again."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "plan")
    uses: ClassVar[tuple[str, ...]] = ("original",)
    gives: ClassVar[str] = "compressed"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    batches: int = Field(default=16, ge=1, description="batches of 32 training images for batch-norm statistics")

    def run(self, state: State) -> None:
        data = open_data(state.data, state.root, state.cache, state.seed)
        state.progress("compress: surgery", 0, 2)
        module = surgery(state, data)
        state.progress("compress: batch norm", 1, 2)
        reestimate_batch_norm(module, data, self.batches, state.seed)
        save_weights(module, state.out / "weights.safetensors")


def reestimate_batch_norm(module: nn.Module, data: Data, batches: int, seed: int) -> None:
    """Replace running statistics by plain averages over training batches; dropout stays off."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for images, _, _ in itertools.islice(data.training_batches(32, 0, seed), batches):
            module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


PLUGIN = Compress
