"""Batch-norm statistics estimated again: what they were is wrong once a network computes other activations."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def reestimate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by plain averages over batches of the module's input; dropout stays off."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
