"""Modules that return anything but one tensor: the logits are found, or it is refused in one line."""

import copy
import pickle
import types
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.network.answers import (
    refuse_answers_that_are_not_finite,
    refuse_answers_that_depend_on_the_batch,
    with_one_output,
)
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.export import export_onnx

SHAPE, CLASSES = (3, 16, 16), 4

Pair = namedtuple("Pair", ["first", "logits"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class Branched(nn.Module):
    """A classifier with an auxiliary head before the main one; `returns` makes what it returns of the logits, the
    auxiliary logits, the features, and whether it trains."""

    def __init__(self, returns: Callable[[Tensor, Tensor, Tensor, bool], Any]) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.auxiliary, self.body = nn.Linear(8, CLASSES), nn.Conv2d(8, 16, 3, 2, 1)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(16, CLASSES)
        self.returns = returns

    def forward(self, x: Tensor) -> Any:
        early = torch.relu(self.norm(self.stem(x)))
        auxiliary = self.auxiliary(early.mean((2, 3)))
        features = torch.relu(self.body(early)).mean((2, 3))
        return self.returns(self.fc(self.drop(features)), auxiliary, features, self.training)


def single(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits


def one_key(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return {"out": logits}


def key_called_logits(logits: Tensor, _a: Tensor, features: Tensor, _t: bool) -> Any:
    return {"features": features, "logits": logits}


def two_keys(logits: Tensor, _a: Tensor, features: Tensor, _t: bool) -> Any:
    return {"features": features, "out": logits}


def pair(logits: Tensor, auxiliary: Tensor, _f: Tensor, _t: bool) -> Any:
    return auxiliary, logits


def list_of_one(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return [logits]


def named_pair(logits: Tensor, auxiliary: Tensor, _f: Tensor, _t: bool) -> Any:
    return Pair(auxiliary, logits)


def dataclass_output(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return Output(logits)


def namespace(logits: Tensor, _a: Tensor, features: Tensor, _t: bool) -> Any:
    return types.SimpleNamespace(features=features, logits=logits)


def pair_in_training(logits: Tensor, auxiliary: Tensor, _f: Tensor, training: bool) -> Any:
    return (auxiliary, logits) if training else logits


def two_heads(logits: Tensor, auxiliary: Tensor, _f: Tensor, training: bool) -> Any:
    return (logits, auxiliary) if training else (logits + auxiliary) / 2


def map_of_one_pixel(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits[:, :, None, None]


def larger_map(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits[:, :, None, None].expand(-1, -1, 2, 2)


def class_id(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits.argmax(1)


def nothing(_l: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return None


def network(returns: Callable[..., Any]) -> Branched:
    torch.manual_seed(0)
    return Branched(returns).eval()


@pytest.mark.parametrize(
    ("returns", "output"),
    [
        (single, None),
        (one_key, None),
        (key_called_logits, None),
        (list_of_one, None),
        (named_pair, None),
        (dataclass_output, None),
        (namespace, None),
        (pair_in_training, None),
        (map_of_one_pixel, None),
        (two_keys, "out"),
        (pair, 1),
        (pair, -1),
        (named_pair, "logits"),
        (named_pair, 1),
    ],
)
def test_the_logits_are_found_in_both_modes(returns: Callable[..., Any], output: str | int | None) -> None:
    module, images = with_one_output(network(returns), SHAPE, CLASSES, output), torch.randn(5, *SHAPE)
    wanted = network(single)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert copied.state_dict().keys() == wanted.state_dict().keys()
    torch.testing.assert_close(copied(images), wanted(images))
    torch.testing.assert_close(trained(copied, images), trained(wanted, images))


def trained(module: nn.Module, images: Tensor) -> Tensor:
    """What a module answers in training mode, dropout being drawn alike."""
    torch.manual_seed(1)
    answer: Tensor = module.train()(images)
    return answer


@pytest.mark.parametrize(("returns", "output"), [(single, None), (key_called_logits, None), (pair, 1)])
def test_what_is_traced_and_exported_is_the_main_answer_alone(
    returns: Callable[..., Any], output: str | int | None
) -> None:
    found = analyse_network(with_one_output(network(returns), SHAPE, CLASSES, output), SHAPE)
    assert [layer.name for layer in found.layers] == ["stem", "body", "fc"]
    model = export_onnx(found.module, SHAPE)
    assert [one.name for one in model.graph.output] == ["logits"]
    values = {node.name for node in found.graph.graph.nodes}
    assert {node.output[0] for node in model.graph.node} <= values


@pytest.mark.parametrize(
    ("returns", "output", "said"),
    [
        (two_keys, None, r"the model returns 2 values: 'features' float32 \(2, 16\), 'out' float32 \(2, 4\); the key"),
        (pair, None, r"must say which one are the logits: `output: 0`, `output: 1`$"),
        (two_keys, "logits", r"model\.output: the model returns nothing called 'logits'; it returns 2 values: "),
        (pair, 2, "returns nothing called 2"),
        (two_keys, "features", r"answers with float32 \(2, 16\) for 2 images; the data has 4 classes"),
        (two_heads, None, r"in training the model returns 2 values: .*none of them is what it answers in evaluation"),
        (larger_map, None, r"answers with float32 \(2, 4, 2, 2\)"),
        (class_id, None, r"answers with int64 \(2,\) .*allowed is float \(images, classes\)"),
        (nothing, None, "the model returns a NoneType"),
        (single, "logits", r"model\.output: 'logits', but the model returns one tensor"),
    ],
)
def test_everything_else_is_one_line(returns: Callable[..., Any], output: str | int | None, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        with_one_output(network(returns), SHAPE, CLASSES, output)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"float32 \(2, 4\) for 2 images; the data has 10 classes"):
        with_one_output(network(single), SHAPE, 10)


def test_heads_that_differ_in_training_need_the_key() -> None:
    module = with_one_output(network(two_heads), SHAPE, CLASSES, 0)
    assert module.train()(torch.randn(3, *SHAPE)).shape == (3, CLASSES)


def test_trying_a_module_changes_nothing_in_it() -> None:
    module, state = network(key_called_logits), torch.get_rng_state()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.fc.train()
    with_one_output(module, SHAPE, CLASSES)
    assert [name for name, part in module.named_modules() if part.training] == ["fc"]
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_sound_module_gets_no_hook() -> None:
    assert not with_one_output(network(single), SHAPE, CLASSES)._forward_hooks


class Auxiliary(nn.Module):
    """A head that needs larger images than it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.fc(nn.functional.avg_pool2d(x, 32).flatten(1))
        return answer


class Inception(nn.Module):
    """As torchvision's: the auxiliary head runs in training alone, where there is one."""

    def __init__(self, optional: bool) -> None:
        super().__init__()
        self.stem, self.auxiliary, self.fc = nn.Conv2d(3, 8, 3), Auxiliary(), nn.Linear(8, CLASSES)
        self.optional = optional

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        logits = self.fc(x.mean((2, 3)))
        if self.training and (self.auxiliary is not None or not self.optional):
            return logits, self.auxiliary(x)
        return logits


class Demanding(Inception):
    """One whose code takes only what a real head answers."""

    def forward(self, x: Tensor) -> Any:
        returned = super().forward(x)
        return (returned[0], returned[1].view(len(x), CLASSES)) if self.training else returned


def test_heads_that_only_training_runs_are_taken_off_where_the_module_does_without() -> None:
    module = with_one_output(Inception(optional=True).eval(), SHAPE, CLASSES)
    assert module.train()(torch.randn(3, *SHAPE)).shape == (3, CLASSES)
    assert not [name for name in module.state_dict() if name.startswith("auxiliary")]
    asked = with_one_output(Inception(optional=False).eval(), SHAPE, CLASSES)
    assert asked.train()(torch.randn(3, *SHAPE)).shape == (3, CLASSES)
    assert not [name for name in asked.state_dict() if name.startswith("auxiliary")]
    kept = with_one_output(Demanding(optional=False).eval(), SHAPE, CLASSES)
    assert isinstance(kept.auxiliary, Auxiliary)
    large = with_one_output(Demanding(optional=False).eval(), (3, 64, 64), CLASSES)
    assert large.train()(torch.randn(3, 3, 64, 64)).shape == (3, CLASSES)


def test_logits_of_real_images_must_be_finite() -> None:
    module, images = network(single), torch.randn(5, *SHAPE)
    refuse_answers_that_are_not_finite(module, images)
    images[3] = float("inf")
    with pytest.raises(InputError, match="1 of the first 5 validation images: logits are not finite"):
        refuse_answers_that_are_not_finite(module, images)


def softmax_over_the_batch(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits.softmax(0)


def less_the_batchs_mean(logits: Tensor, _a: Tensor, _f: Tensor, _t: bool) -> Any:
    return logits - logits.mean(0)


def test_an_image_has_one_answer_whatever_else_is_in_its_batch() -> None:
    images = torch.randn(5, *SHAPE)
    refuse_answers_that_depend_on_the_batch(network(single), images)
    for returns in (softmax_over_the_batch, less_the_batchs_mean):
        with pytest.raises(InputError, match="depends on the other images of its batch"):
            refuse_answers_that_depend_on_the_batch(network(returns), images)
