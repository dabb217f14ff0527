"""How far a changed network's answers are from the teacher's, in nats (KL divergence)."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from paredown.models.errors import InputError
from paredown.models.network.logits import logits_behind
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.solvers.problem import Choice

Floats = NDArray[np.float64]

RUINED = 100.0
"""Nats that an image costs for which the changed network has no answer; a wrong one costs some 10."""


class TeacherComparison:
    """Compares changed networks with the teacher on the same images (N, 3, H, W)."""

    def __init__(self, space: PlanSpace, images: Tensor) -> None:
        self.space, self.images = space, images
        self.teacher = self.answers({})
        if count := int((~self.teacher.isfinite().all(1)).sum()):
            text = f"{count} of {len(images)} calibration images: logits are not finite (NaN or infinite)"
            raise InputError(f"nothing can be compared with the original: {text}")

    def loss(self, choice: Choice) -> float:
        """KL(teacher, changed network) in nats, averaged over the images."""
        return float(self.losses(choice).mean())

    def losses(self, choice: Choice) -> Floats:
        """(images,) of KL(teacher, changed network) in nats."""
        return divergences(self.answers(choice), self.teacher)

    def answers(self, choice: Choice) -> Tensor:
        """(images, classes) of log probabilities under a plan."""
        own = self.space.network_of(choice)
        graph = own.network.graph
        with restored_parameters(graph):
            for transform in self.space.transforms:
                graph = transform.imitate(own, choice, graph)
            with torch.no_grad():
                logits = [logits_behind(graph, batch) for batch in torch.split(self.images, 16)]
                return log_softmax(torch.cat(logits), dim=1)


def divergences(changed: Tensor, teacher: Tensor) -> Floats:
    """KL divergence in nats of each image's log probabilities (images, classes) from the teacher's.

    An image whose answer is not finite counts as `RUINED`: comparisons with NaN are false, so it would seem harmless.
    """
    each = kl_div(changed, teacher, reduction="none", log_target=True).double().sum(1)
    return torch.where(each.isfinite(), each.clamp(min=0), RUINED).numpy()


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
