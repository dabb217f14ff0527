"""Distillation: the student learns the teacher's softened answers, and its features on the channels that it kept.

Logits after Hinton et al., Distilling the knowledge in a neural network, 2015. The student's channels are a known
subset of the teacher's, so features are compared channel by channel, without projections between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from paredown.models.compression.resolution import shrink_image
from paredown.models.compression.supernet import KEEP
from paredown.models.network.batch_norm import batch_norm_pairs
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.logits import logits_behind
from paredown.models.network.trace import channel_source
from paredown.stages.analysis.plan_network import is_merged, picks_of
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers.problem import Choice
from paredown.stages.training.device import training_device
from paredown.stages.transforms.base import Transform

Points = Mapping[str, list[int]]
"""Module name to the teacher's channels that the student kept there."""


@dataclass(frozen=True)
class LossWeights:
    """What the parts of the loss weigh."""

    logits: float
    labels: float
    features: float
    temperature: float


def feature_points(
    prepared: PreparedModel, transforms: Sequence[Transform], choice: Choice, teacher: nn.Module
) -> dict[str, list[int]]:
    """Module name to the teacher's channels that the student kept there, of the modules where blocks end: the blocks
    themselves where they may be replaced as a whole, else what the layers of a group share."""
    ends = _block_ends(prepared, choice) if prepared.branches else _shared_ends(prepared, teacher)
    return {name: _kept(prepared, transforms, group, choice) for name, group in ends.items()}


def _kept(prepared: PreparedModel, transforms: Sequence[Transform], group: ChannelGroup, choice: Choice) -> list[int]:
    """The channels of a group that every transform leaves."""
    channels: Sequence[int] = range(group.width)
    for transform in transforms:
        channels = transform.kept_channels(prepared, group, choice, channels)
    return list(channels)


def _block_ends(prepared: PreparedModel, choice: Choice) -> dict[str, ChannelGroup]:
    """The blocks, kept or replaced: their module is there under the same name in teacher and student. One that does
    the next block's work too ends where that one does."""
    points, picked = {}, picks_of(choice)
    for branch in (b for b in prepared.branches if not is_merged(picked.get(b.block, KEEP))):
        source = channel_source(prepared.network, branch.values[KEEP])
        group = next((group for group in prepared.groups if source in group.outputs), None)
        if group is not None:
            points[branch.block] = group
    return points


def _shared_ends(prepared: PreparedModel, teacher: nn.Module) -> dict[str, ChannelGroup]:
    """The batch norm after the last layer of each group that several layers share, and of the last group."""
    norms = dict(batch_norm_pairs(teacher, prepared.network.shape))
    order = [layer.name for layer in prepared.network.layers]
    points = {}
    for index, group in enumerate(sorted(prepared.groups, key=lambda g: max(map(order.index, g.outputs)))):
        shared = [name for name in group.outputs if not prepared.network.layer(name).depthwise]
        last = max(shared, key=order.index)
        if (len(shared) > 1 or index == len(prepared.groups) - 1) and last in norms:
            points[norms[last]] = group
    return points


class Distillation:
    """A training loss: the student's logits and features against those of its teacher, which sees the same images.

    `wanted` and `learnt` are the features (N, C, H, W) of the last batch, of teacher and student, by point.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, weights: LossWeights, points: Points) -> None:
        self.teacher, self.weights = teacher.to(training_device()).eval(), weights
        self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.points = {name: kept for name, kept in points.items() if weights.features and _has(student, name)}
        self.wanted, self.learnt = dict[str, Tensor](), dict[str, Tensor]()
        self.hooks = _keep_outputs(teacher, self.points, self.wanted) + _keep_outputs(student, self.points, self.learnt)

    def __call__(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            answer = logits_behind(self.teacher, images)
        logits, w = logits_behind(student, images), self.weights
        loss = w.logits * softened_loss(logits, answer, w.temperature) + w.labels * cross_entropy(logits, labels)
        return loss + w.features * self._feature_loss() if self.points else loss

    def _feature_loss(self) -> Tensor:
        """Squared error in units of the teacher's variance, averaged over the points."""
        errors = []
        for name, kept in self.points.items():
            if self.learnt[name].shape[1] != len(kept):
                continue  # a transform changed this width and does not say which channels stay
            wanted = self.wanted[name][:, kept]
            if wanted.shape[2:] != self.learnt[name].shape[2:]:  # the student's images are smaller
                wanted = shrink_image(wanted, self.learnt[name].shape[2:])
            errors.append((self.learnt[name] - wanted).square().mean() / (wanted.var() + 1e-6))
        return torch.stack(errors).mean() if errors else torch.zeros(())

    def close(self) -> None:
        """Takes the hooks off both networks."""
        for hook in self.hooks:
            hook.remove()


def softened_loss(logits: Tensor, answer: Tensor, temperature: float) -> Tensor:
    """KL divergence at a temperature, scaled so that its gradient does not depend on it."""
    soft = [log_softmax(x.float() / temperature, dim=1) for x in (logits, answer)]
    return kl_div(soft[0], soft[1], reduction="batchmean", log_target=True) * temperature**2


def _has(module: nn.Module, name: str) -> bool:
    return name in dict(module.named_modules())


def _keep_outputs(
    module: nn.Module, points: Points, outputs: dict[str, Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hooks that put what the named modules compute into `outputs`, on every pass."""

    def keep(name: str):  # type: ignore[no-untyped-def]
        return lambda _module, _args, output: outputs.update({name: output})

    return [module.get_submodule(name).register_forward_hook(keep(name)) for name in points]
