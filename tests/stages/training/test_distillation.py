"""What the student learns from its teacher."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from paredown.models.compression.channel_groups import remove_channels
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.training.distillation import Distillation, LossWeights, feature_points, softened_loss
from paredown.stages.transforms.narrow import Narrow, kept_by_layer

LABELS = torch.arange(12) % 3


@pytest.fixture
def images(tools: Any) -> torch.Tensor:
    return torch.randn(12, *tools.shape, generator=torch.Generator().manual_seed(0))


def value_of(loss: Distillation, student: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float(loss(student, images, LABELS))


def test_the_same_answer_is_no_loss() -> None:
    logits = torch.randn(8, 5)
    assert float(softened_loss(logits, logits, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(softened_loss(logits + 3.0, logits, 2.0)) == pytest.approx(0, abs=1e-6)


def test_it_is_the_divergence_from_the_teacher() -> None:
    logits, answer = torch.randn(8, 5), torch.randn(8, 5)
    wanted, learnt = answer.div(3).softmax(1), logits.div(3).softmax(1)
    expected = 9 * (wanted * (wanted / learnt).log()).sum(1).mean()
    assert float(softened_loss(logits, answer, 3.0)) == pytest.approx(float(expected), rel=1e-5)


def test_its_gradient_hardly_depends_on_the_temperature() -> None:
    norms = []
    for temperature in (4.0, 16.0):
        logits = torch.linspace(-0.1, 0.1, 40).reshape(8, 5).requires_grad_()
        softened_loss(logits, torch.zeros(8, 5), temperature).backward()
        assert logits.grad is not None
        norms.append(float(logits.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_points_are_where_blocks_and_the_last_stage_end(prepared: PreparedModel, net: nn.Module) -> None:
    points = feature_points(prepared, [Narrow()], {"narrow:block.conv2": "8"}, net)
    assert set(points) == {"block.bn2", "pointwise.1"}
    assert points["block.bn2"] == sorted(prepared.channel_ranking["block.conv2"][:8])
    assert points["pointwise.1"] == list(range(48))


def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    net: nn.Module, prepared: PreparedModel, images: torch.Tensor
) -> None:
    student = copy.deepcopy(net)
    loss = Distillation(net, student, LossWeights(1.0, 0.0, 1.0, 2.0), feature_points(prepared, [Narrow()], {}, net))
    assert value_of(loss, student, images) == pytest.approx(0, abs=1e-6)


def test_features_are_compared_on_the_channels_that_stayed(
    net: nn.Module, prepared: PreparedModel, images: torch.Tensor
) -> None:
    """The last group is narrowed: what its other channels compute is as before, so their error is 0."""
    choice = {"narrow:pointwise.0": "16"}
    student = remove_channels(net, prepared.network.shape, kept_by_layer(prepared, choice)).eval()
    only = LossWeights(0.0, 0.0, 1.0, 2.0)
    right = Distillation(net, student, only, feature_points(prepared, [Narrow()], choice, net))
    assert value_of(right, student, images) == pytest.approx(0, abs=1e-5)
    right.close()
    others = {"pointwise.1": sorted(set(range(48)) - set(prepared.channel_ranking["pointwise.0"][:16]))[:16]}
    wrong = Distillation(net, student, only, others)
    assert value_of(wrong, student, images) > 0.1


def test_the_parts_are_weighed(net: nn.Module, images: torch.Tensor) -> None:
    torch.manual_seed(1)
    student = copy.deepcopy(net)
    with torch.no_grad():
        student.get_parameter("fc.weight").normal_()
        logits, answer = student(images), net(images)
    loss = Distillation(net, student, LossWeights(0.7, 0.3, 0.0, 2.0), {})
    expected = 0.7 * softened_loss(logits, answer, 2.0) + 0.3 * cross_entropy(logits, LABELS)
    assert value_of(loss, student, images) == pytest.approx(float(expected), rel=1e-5)


def test_gradients_reach_the_student_and_not_the_teacher(
    net: nn.Module, prepared: PreparedModel, images: torch.Tensor
) -> None:
    choice = {"narrow:block.conv2": "8", "narrow:block.conv1": "16"}
    student = remove_channels(net, prepared.network.shape, kept_by_layer(prepared, choice)).train()
    loss = Distillation(
        net, student, LossWeights(0.7, 0.3, 0.5, 2.0), feature_points(prepared, [Narrow()], choice, net)
    )
    loss(student, images, LABELS).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())
    assert all(p.grad is None for p in net.parameters())
    assert not net.training


def test_features_alone_teach_the_layers_before_them(
    net: nn.Module, prepared: PreparedModel, images: torch.Tensor
) -> None:
    student = copy.deepcopy(net)
    with torch.no_grad():
        student.get_parameter("block.conv1.weight").mul_(0.5)
    loss = Distillation(net, student, LossWeights(0.0, 0.0, 1.0, 2.0), {"block.bn2": list(range(16))})
    loss(student, images, LABELS).backward()
    grads = {name: p.grad for name, p in student.named_parameters()}
    assert grads["block.conv1.weight"] is not None
    assert float(grads["block.conv1.weight"].abs().sum()) > 0
    assert grads["fc.weight"] is None or float(grads["fc.weight"].abs().sum()) == 0


def test_closing_takes_the_hooks_away(net: nn.Module, prepared: PreparedModel, images: torch.Tensor) -> None:
    student = copy.deepcopy(net)
    loss = Distillation(net, student, LossWeights(1.0, 0.0, 1.0, 2.0), feature_points(prepared, [Narrow()], {}, net))
    loss.close()
    student(images)
    assert loss.learnt == {}
