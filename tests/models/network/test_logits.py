"""Networks that end in a softmax or a sigmoid: losses are taken of what goes into it, answers stay as they are."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.models.network.answers import with_one_output
from paredown.models.network.logits import form_of_answers, logits_behind
from paredown.models.network.trace import analyse_network
from paredown.stages.training.distillation import softened_loss
from paredown.stages.training.task import supervised_loss

SHAPE, CLASSES = (3, 8, 8), 5
LABELS = torch.arange(6) % CLASSES

End = Callable[[Tensor], Any]


class Ending(nn.Module):
    """A classifier whose hidden units are weighed by a softmax too, as many as classes; `end` makes its answer."""

    def __init__(self, end: End, gain: float = 8.0) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = (
            nn.Conv2d(3, CLASSES, 3),
            nn.Linear(CLASSES, CLASSES),
            nn.Linear(CLASSES, CLASSES),
        )
        self.end, self.gain = end, gain

    def forward(self, x: Tensor) -> Any:
        features = torch.relu(self.conv(x)).mean((2, 3))
        return self.end(self.fc(features * self.gate(features).softmax(1)) * self.gain)


def network(end: End, gain: float = 8.0) -> nn.Module:
    torch.manual_seed(0)
    return Ending(end, gain).eval()


def as_it_is(logits: Tensor) -> Tensor:
    return logits


TAKEN_OFF: dict[str, tuple[End, str]] = {
    "method": (lambda z: z.softmax(1), "softmax"),
    "module": (nn.Softmax(dim=-1), "softmax"),
    "no axis": (lambda z: functional.softmax(z, dim=1), "softmax"),
    "names alone": (lambda z: torch.softmax(input=z, dim=1), "softmax"),
    "special": (lambda z: torch.special.softmax(z, 1), "softmax"),
    "log-softmax": (lambda z: functional.log_softmax(z, 1), "log_softmax"),
    "logarithm": (lambda z: (z.softmax(1) + 1e-8).log(), "softmax"),
    "in percent": (lambda z: 100 * z.softmax(1), "softmax"),
    "copied": (lambda z: z.softmax(1).clone().double().float(), "softmax"),
    "bounded": (lambda z: z.softmax(1).clamp(1e-7, 1.0), "softmax"),
    "other shapes": (lambda z: z[:, :, None, None].softmax(1).flatten(1), "softmax"),
    "twice": (lambda z: z.softmax(1).softmax(1), "softmax of a softmax"),
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "tanh": (nn.Tanh(), "tanh"),
    "logarithm of a sigmoid": (nn.LogSigmoid(), "log_sigmoid"),
    "sigmoid in place": (lambda z: (z * 1).sigmoid_(), "sigmoid"),
}

OF_ITS_OWN: dict[str, End] = {
    "written out": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "two heads": lambda z: (z.softmax(1) + z.softmax(1)) / 2,
}

NONE: dict[str, End] = {
    "logits": as_it_is,
    "a gate": lambda z: z * z.sigmoid(),
    "a gate in place": lambda z: z.sigmoid().mul_(z),
    "another order": lambda z: z.softmax(1) * -1,
    "over the batch": lambda z: z.softmax(0),
}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TAKEN_OFF)
def test_logits_are_those_of_the_network_without_its_end(name: str, images: Tensor) -> None:
    """In a module, in its trace, in training and in bf16, to the bit."""
    module, plain = network(TAKEN_OFF[name][0]), network(as_it_is)
    assert not torch.equal(module(images), plain(images))
    assert torch.equal(logits_behind(module, images), plain(images))
    trace = analyse_network(module, SHAPE).graph
    torch.testing.assert_close(logits_behind(trace, images), plain(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits_behind(module.train(), images), plain.train()(images))


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_of_other_probabilities_they_are_the_logarithm(name: str, images: Tensor) -> None:
    module, expected = network(OF_ITS_OWN[name]), network(as_it_is)(images).log_softmax(1)
    torch.testing.assert_close(logits_behind(module, images), expected)
    torch.testing.assert_close(logits_behind(analyse_network(module, SHAPE).graph, images), expected)


def test_a_probability_that_is_0_has_a_logarithm_all_the_same(images: Tensor) -> None:
    module = network(OF_ITS_OWN["two heads"], gain=1e4)
    assert (module(images) == 0).any()
    assert bool(logits_behind(module, images).isfinite().all())


@pytest.mark.parametrize("name", NONE)
def test_all_other_answers_are_logits(name: str, images: Tensor) -> None:
    """Also where there are as many images as classes."""
    module = network(NONE[name])
    for some in (images, images[:CLASSES]):
        assert torch.equal(logits_behind(module, some), module(some))
    assert form_of_answers(module, images) == ""


def test_the_output_that_is_picked_counts(images: Tensor) -> None:
    module = with_one_output(network(lambda z: {"out": z.softmax(1)}), SHAPE, CLASSES)
    assert torch.equal(logits_behind(module, images), network(as_it_is)(images))


@pytest.mark.parametrize("name", TAKEN_OFF)
def test_what_it_is_made_by_is_told(name: str, images: Tensor) -> None:
    made = TAKEN_OFF[name][1]
    expected = f"made by a {made} inside; training and comparing use what goes into it"
    assert form_of_answers(network(TAKEN_OFF[name][0]), images) == expected


def test_other_probabilities_are_told(images: Tensor) -> None:
    told = form_of_answers(network(OF_ITS_OWN["two heads"]), images)
    assert told == "probabilities; training and comparing use their logarithm"


@pytest.mark.parametrize("gain", [8.0, 3000.0])
@pytest.mark.parametrize("name", ["method", "sigmoid"])
def test_gradients_are_those_of_the_network_without_its_end(name: str, gain: float, images: Tensor) -> None:
    """Also where probabilities are 0 and 1 in float32, whose logarithm would have none."""
    wanted, learnt = network(as_it_is, gain).train(), network(TAKEN_OFF[name][0], gain).train()
    for module in (wanted, learnt):
        supervised_loss(module, images, LABELS).backward()
    pairs = zip(wanted.parameters(), learnt.parameters(), strict=True)
    assert all(a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad) for a, b in pairs)
    assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in learnt.parameters())


def test_a_constant_answer_is_as_far_from_the_teachers_as_without_softmax(images: Tensor) -> None:
    teacher, plain = network(TAKEN_OFF["method"][0]), network(as_it_is)
    constant = torch.zeros(len(images), CLASSES)
    with torch.no_grad():
        far = float(softened_loss(constant, logits_behind(teacher, images), 1.0))
        blind = float(softened_loss(constant, teacher(images), 1.0))
        assert far == float(softened_loss(constant, plain(images), 1.0))
    assert far > 5 * blind > 0


def test_the_network_answers_as_before(images: Tensor) -> None:
    module = network(TAKEN_OFF["method"][0])
    before, twin = module(images), copy.deepcopy(module)
    logits_behind(module, images)
    assert torch.equal(module(images), before)
    assert torch.equal(twin(images), before)


def test_numbers_without_a_shape_are_computed_beside_a_gate(images: Tensor) -> None:
    """As the batches that a batch norm counts, in a network with squeeze and excitation that is being trained."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.fc(self.norm(x * x.mean((2, 3), keepdim=True).sigmoid()).mean((2, 3)))  # type: ignore[no-any-return]

    net = Gated().train()
    assert torch.equal(logits_behind(net, images), net(images))
