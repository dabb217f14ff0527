"""How far a changed network's answers are from the teacher's, in nats (KL divergence)."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from paredown.models.errors import InputError
from paredown.models.network.logits import logits_behind
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.solvers.problem import Choice

RUINED = 100.0
"""Nats that an image costs for which the changed network has no answer; a wrong one costs some 10."""


class TeacherComparison:
    """Compares changed networks with the teacher on the same images (N, 3, H, W)."""

    def __init__(self, space: PlanSpace, images: Tensor) -> None:
        self.space, self.images = space, images
        self.teacher = self._log_probabilities({})
        if count := int((~self.teacher.isfinite().all(1)).sum()):
            text = f"{count} of {len(images)} calibration images: logits are not finite (NaN or infinite)"
            raise InputError(f"nothing can be compared with the original: {text}")

    def loss(self, choice: Choice) -> float:
        """KL(teacher, changed network) in nats, averaged over the images."""
        return divergence(self._log_probabilities(choice), self.teacher)

    def _log_probabilities(self, choice: Choice) -> Tensor:
        own = self.space.network_of(choice)
        graph = own.network.graph
        with restored_parameters(graph):
            for transform in self.space.transforms:
                graph = transform.imitate(own, choice, graph)
            with torch.no_grad():
                logits = [logits_behind(graph, batch) for batch in torch.split(self.images, 16)]
                return log_softmax(torch.cat(logits), dim=1)


def divergence(changed: Tensor, teacher: Tensor) -> float:
    """KL divergence in nats of log probabilities (images, classes) from the teacher's, averaged over the images.

    An image whose answer is not finite counts as `RUINED`: comparisons with NaN are false, so it would seem harmless.
    """
    loss = float(kl_div(changed, teacher, reduction="batchmean", log_target=True))
    if isfinite(loss):
        return loss
    each = kl_div(changed, teacher, reduction="none", log_target=True).sum(1)
    return float(torch.where(each.isfinite(), each, RUINED).mean())


@contextmanager
def restored_parameters(module: nn.Module) -> Iterator[None]:
    """Within, a module's parameters may be changed; afterwards it has those from before. A copy of a traced network
    takes twenty times as long."""
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(before[name])
