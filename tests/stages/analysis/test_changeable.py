"""Networks with odd layers: what can be changed computes in the artifact what torch imitates, the rest stays."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paredown.models.errors import InputError
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.run import run_onnx
from paredown.stages.analysis.changeable import classifier_of, layers_that_quantize, layers_with_weights
from paredown.stages.analysis.prepare import with_channel_groups
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import restored_parameters
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.sparsify import Sparsify

SHAPE = (3, 16, 16)


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class Frame(nn.Module):
    """A stem, something odd on 16 channels, a convolution and a classifier."""

    def __init__(self, *odd: nn.Module) -> None:
        super().__init__()
        self.stem, self.odd, self.last = conv(3, 16, 2), nn.ModuleList(odd), conv(16, 32)
        self.fc = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.last(self.middle(self.stem(x))).mean((2, 3)))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        for module in self.odd:
            x = module(x)
        return x

    def tail(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Split(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        one, other = x.chunk(2, 1)
        return torch.cat([self.odd[0](one), other], 1)


class Shuffle(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return self.odd[0](x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class NormBehindSum(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.odd[1](self.odd[0](x) + x))


class SharedNorm(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.odd[2](torch.relu(self.odd[2](self.odd[0](x))) + self.odd[1](x))


class NormBeforeClassifier(Frame):
    def tail(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.odd[0](x))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Hidden(NormBeforeClassifier):
    def tail(self, x: torch.Tensor) -> torch.Tensor:
        return self.odd[0](x)


class Attention(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens + self.odd[0](tokens, tokens, tokens)[0]).transpose(1, 2).reshape(x.shape)


class Twice(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.odd[0](torch.relu(self.odd[0](x)))


class ChannelsLast(Frame):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.odd[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Odd(nn.Conv2d):
    """A weight that is computed anew in every pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def norm_behind_activation() -> nn.Module:
    return Frame(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(16))


FRAMES = {
    "split": lambda: Split(conv(8, 8)),
    "shuffle": lambda: Shuffle(conv(16, 16)),
    "norm behind a sum": lambda: NormBehindSum(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)),
    "norm behind an activation": norm_behind_activation,
    "one norm twice": lambda: SharedNorm(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)),
    "norm before the classifier": lambda: NormBeforeClassifier(nn.BatchNorm1d(32)),
    "hidden layer with a norm": lambda: Hidden(
        nn.Sequential(nn.Linear(32, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))
    ),
    "attention": lambda: Attention(nn.MultiheadAttention(16, 2, batch_first=True)),
    "one layer twice": lambda: Twice(nn.Conv2d(16, 16, 1)),
    "linear on channels": lambda: ChannelsLast(nn.Linear(16, 16)),
    "computed weight": lambda: Frame(Odd(16, 16, 3, padding=1), nn.ReLU()),
    "transposed": lambda: Frame(nn.ConvTranspose2d(16, 16, 2, 2), nn.ReLU()),
    "group norm": lambda: Frame(nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU()),
    "depthwise with two channels each": lambda: Frame(nn.Conv2d(16, 32, 3, padding=1, groups=16), nn.Conv2d(32, 16, 1)),
}


def prepared_of(name: str, tools: Any) -> tuple[nn.Module, PreparedModel]:
    torch.manual_seed(0)
    module = tools.warmed(FRAMES[name](), SHAPE)
    return module, with_channel_groups(tools.subject_of(module, SHAPE), module)


def answer(model: Any, images: torch.Tensor) -> np.ndarray:
    return np.concatenate([next(iter(run_onnx(model, image.numpy()).values())) for image in images.split(1)])


@pytest.mark.parametrize("name", FRAMES)
def test_every_change_computes_in_the_file_what_it_computes_in_torch(name: str, tools: Any) -> None:
    module, prepared = prepared_of(name, tools)
    order = {group.name: tuple(reversed(range(group.width))) for group in prepared.groups}
    prepared = PreparedModel(**{**vars(prepared), "channel_ranking": order})
    transforms = (Narrow(), Sparsify(patterns=("unstructured",)), Quantize())
    space, images = PlanSpace(prepared, transforms), torch.randn(8, *SHAPE)
    with torch.no_grad():
        plain = module(images).numpy()
    np.testing.assert_allclose(answer(prepared.model, images), plain, atol=1e-3 * plain.std())
    for transform in transforms:
        choice = {s.name: s.candidates[-1].name for s in space.sites if s.name.startswith(_kind(transform))}
        with restored_parameters(prepared.network.graph), torch.no_grad():
            wanted = transform.imitate(prepared, choice, prepared.network.graph)(images).numpy()
        got = answer(transform.lower(prepared, choice, prepared.model), images)
        assert np.abs(got - wanted).mean() < 0.05 * np.abs(wanted - plain).mean() + 1e-5 * plain.std()
        assert choice or name in ("group norm", "norm before the classifier", "linear on channels", "one layer twice")


def _kind(transform: Any) -> str:
    return f"{type(transform).__name__.lower()}:"


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("attention", "odd.0"), ("one layer twice", "odd.0"), ("computed weight", "odd.0"), ("transposed", "odd.0")],
)
def test_what_stays_as_it_is_is_no_site_and_the_rest_is(name: str, fixed: str, tools: Any) -> None:
    _, prepared = prepared_of(name, tools)
    assert [layer.module for layer in prepared.network.fixed] == [fixed]
    assert {"stem.0", "last.0", "fc"} <= layers_that_quantize(prepared)
    assert layers_with_weights(prepared) == {"stem.0", "last.0", "fc"}
    assert [group.name for group in prepared.groups] == ["last.0"]
    assert all(fixed not in site.name for site in PlanSpace(prepared, (Narrow(), Sparsify(), Quantize())).sites)


def test_a_layer_without_a_calibrated_value_stays_fp32(tools: Any) -> None:
    _, prepared = prepared_of("norm behind a sum", tools)
    lost = prepared.network.layer("last.0").inputs[0]
    ranges = {name: bounds for name, bounds in prepared.ranges.items() if name != lost}
    less = PreparedModel(**{**vars(prepared), "ranges": ranges})
    assert layers_that_quantize(prepared) - layers_that_quantize(less) >= {"last.0"}
    assert Quantize().touching(less, less.network.layer("last.0")) == ()
    assert Quantize().lower(less, Quantize().uniform(less)[0], less.model).graph.node


def test_a_network_without_any_layer_is_refused_in_one_line() -> None:
    network = analyse_network(nn.Sequential(Odd(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), SHAPE)
    with pytest.raises(InputError, match=r"no Conv2d, and no Linear .* there are 0 \(Odd\)$"):
        classifier_of(network)


def test_every_transform_says_what_it_covers(tools: Any) -> None:
    _, odd = prepared_of("attention", tools)
    _, whole = prepared_of("group norm", tools)
    assert Quantize().coverage(odd) == "3 of 4 layers; fp32: odd.0 (MultiheadAttention)"
    assert Narrow().coverage(odd).startswith("1 channel group, 1 of 4 layers; groups that stay whole: 1 ")
    assert Narrow().coverage(whole) == "2 channel groups, 2 of 4 layers; groups that stay whole: 1 GroupNorm"
    assert Sparsify().coverage(odd) == "2 of 4 layers"


def test_a_network_that_torch_pruning_cannot_follow_keeps_its_channels(
    tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It divides by zero in the shuffles of shufflenet_v2_x0_5."""
    module, prepared = prepared_of("split", tools)

    def stumble(*_: object, **__: object) -> None:
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", stumble)
    bare = with_channel_groups(prepared, module)
    assert not bare.groups and list(bare.refused_groups) == ["all"]
    assert Narrow().coverage(bare).startswith("none; groups that stay whole: 1 torch-pruning cannot follow the network")
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(Narrow().apply(bare, {}, module)(images), module(images))
