"""How far a changed network's answers are from the teacher's, in nats (KL divergence)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from paredown.stages.analysis.plan_network import network_of_plan
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.base import Transform


class TeacherComparison:
    """Compares changed networks with the teacher on the same images (N, 3, H, W)."""

    def __init__(self, prepared: PreparedModel, transforms: Sequence[Transform], images: Tensor) -> None:
        self.prepared, self.transforms, self.images = prepared, transforms, images
        self.teacher = self._log_probabilities({})

    def loss(self, choice: Choice) -> float:
        """KL(teacher, changed network) in nats, averaged over the images."""
        return float(kl_div(self._log_probabilities(choice), self.teacher, reduction="batchmean", log_target=True))

    def _log_probabilities(self, choice: Choice) -> Tensor:
        prepared = network_of_plan(self.prepared, choice)
        graph = prepared.network.graph
        with restored_parameters(graph):
            for transform in self.transforms:
                graph = transform.imitate(prepared, choice, graph)
            with torch.no_grad():
                return log_softmax(torch.cat([graph(batch) for batch in torch.split(self.images, 16)]), dim=1)


@contextmanager
def restored_parameters(module: nn.Module) -> Iterator[None]:
    """Gives a module back the parameters that it had; a copy of a traced network takes twenty times as long."""
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(before[name])
