"""The traced network: what is folded, which layers are found, and how they are joined."""

from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.errors import InputError
from paredown.models.network.batch_norm import batch_norm_pairs, fold_batch_norm
from paredown.models.network.nodes import operator_name
from paredown.models.network.trace import analyse_network, channel_source
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.prepared_model import PreparedModel

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """Two convolutions and a norm, put together by `build`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.act, self.fc = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(self.body(x).mean((2, 3)))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.a(x)))


class PreActivation(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return x + self.b(self.act(self.norm(x).clone()))


class NormAfterActivation(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.norm(self.act(self.a(x))))


class SharedNorm(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.b(self.norm(self.a(x))))


class SharedLayer(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.b(self.a(x)))


class TwoOutputs(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


class Branching(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean() * self.a(x) if x.mean() > 0 else self.a(x)


class FreeWeight(Net):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, self.a.weight * 2)


class Attentive(Net):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.a(x).flatten(2).transpose(1, 2)
        return (tokens + self.attention(tokens, tokens, tokens)[0]).transpose(1, 2).unflatten(2, x.shape[2:])


class ChannelsLast(Net):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 8)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Transposed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.a(x))


class StandardConv(nn.Conv2d):
    """Its weight has mean 0 and variance 1 over what each channel reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / std, self.bias)


class Standardised(Net):
    def __init__(self) -> None:
        super().__init__()
        self.standard = StandardConv(8, 8, 3, padding=1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.standard(self.a(x))


class StandardisedThenNorm(Standardised):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.standard(self.a(x)))


class NumbersOfTheNorm(Net):
    """Reads the norm's own weight, which is another one once the norm is a convolution."""

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.act(self.a(x))) * self.norm.weight.reshape(1, -1, 1, 1)


class LinearThenNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.vector = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(self.vector(self.hidden(self.a(x).mean((2, 3)))))


class Gated(Net):
    """A squeeze-and-excitation gate, a concatenation and an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.a(x))
        gated = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.last(torch.cat([gated, self.b(x)], 1)) + gated


NORMED = [
    *(Net, PreActivation, NormAfterActivation, SharedNorm),
    *(StandardisedThenNorm, NumbersOfTheNorm, LinearThenNorm),
]


@pytest.mark.parametrize("kind", NORMED)
def test_folding_changes_no_answer(kind: type[Net], tools: Any) -> None:
    module = tools.warmed(kind(), SHAPE)
    images = torch.randn(4, *SHAPE)
    torch.testing.assert_close(fold_batch_norm(module, SHAPE)(images), module(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "left"),
    [(PreActivation, []), (NormAfterActivation, []), (SharedNorm, ["norm"]), (NumbersOfTheNorm, ["norm"])],
)
def test_any_other_norm_on_maps_becomes_a_layer_if_its_numbers_are_its_own(
    kind: type[Net], left: list[str], tools: Any
) -> None:
    folded = fold_batch_norm(tools.warmed(kind(), SHAPE), SHAPE)
    norms = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == left
    assert left or isinstance(folded.norm, nn.Conv2d)


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        (Net, [("a", "norm")]),
        (PreActivation, []),
        (NormAfterActivation, []),
        (SharedNorm, []),
        (StandardisedThenNorm, []),
        (LinearThenNorm, [("hidden", "vector")]),
    ],
)
def test_only_a_norm_that_alone_reads_a_convolution_is_folded(kind: type[Net], pairs: list[tuple[str, str]]) -> None:
    module = kind().eval()
    assert batch_norm_pairs(module, SHAPE) == pairs


def test_the_given_module_is_left_untouched(net: nn.Module, tools: Any) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    analyse_network(net, tools.shape)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_trace_computes_what_the_module_computes(net: nn.Module, prepared: PreparedModel, tools: Any) -> None:
    images = torch.randn(5, *tools.shape)
    torch.testing.assert_close(prepared.network.graph(images), net(images), rtol=1e-4, atol=1e-5)


def test_layers_in_order_with_their_sizes(prepared: PreparedModel) -> None:
    layers = prepared.network.layers
    assert [(layer.name, layer.op) for layer in layers] == [
        ("stem.0", "conv"),
        ("block.conv1", "conv"),
        ("block.conv2", "conv"),
        ("add", "add"),
        ("depthwise", "conv"),
        ("pointwise.0", "conv"),
        ("fc", "linear"),
    ]
    stem, deep = prepared.network.layer("stem.0"), prepared.network.layer("depthwise")
    assert (stem.channels_in, stem.channels_out, stem.kernel, stem.groups) == (3, 16, 9, 1)
    assert (stem.pixels_in, stem.pixels_out) == (24 * 24, 12 * 12)
    assert (deep.groups, deep.depthwise, deep.pixels_out) == (16, True, 6 * 6)
    assert prepared.network.layer("fc").pixels_in == 1


def test_values_have_the_names_that_the_exporter_gives_them(prepared: PreparedModel) -> None:
    made = {value for node in prepared.model.graph.node for value in node.output}
    for layer in prepared.network.layers:
        assert layer.value in made or layer.name == "fc"
        assert layer.output in made
    assert prepared.network.layer("fc").value == "logits"


def test_an_output_is_the_value_behind_the_fused_activation(prepared: PreparedModel) -> None:
    graph = {node.name: node for node in prepared.network.graph.graph.nodes}
    assert operator_name(graph[prepared.network.layer("stem.0").output]) == "relu"
    assert operator_name(graph[prepared.network.layer("pointwise.0").output]) == "hardtanh"
    assert operator_name(graph[prepared.network.layer("add").output]) == "relu"


def test_a_join_takes_the_channels_of_what_it_reads_first(prepared: PreparedModel) -> None:
    assert channel_source(prepared.network, prepared.network.layer("add").inputs[0]) == "block.conv2"


def test_channels_behind_gates_and_concatenations() -> None:
    network = analyse_network(Gated().eval(), SHAPE)
    assert channel_source(network, network.layer("last").inputs[0]) == ""
    assert channel_source(network, network.layer("add").inputs[0]) == "last"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (TwoOutputs, "returns 2 values"),
        (Branching, "cannot be traced by torch.export"),
    ],
)
def test_what_cannot_be_read_is_one_line(kind: type[Net], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        analyse_network(kind().eval(), SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "layers", "fixed"),
    [
        (SharedLayer, ["a", "fc"], ["b (Conv2d, shared or called otherwise)"]),
        (FreeWeight, ["fc"], ["conv2d with a computed weight"]),
        (Attentive, ["a", "fc"], ["attention (MultiheadAttention)"]),
        (ChannelsLast, ["a", "fc"], ["last (Linear on 4 axes)"]),
        (Transposed, ["a", "fc"], ["up (ConvTranspose2d)"]),
        (Standardised, ["a", "fc"], ["standard (StandardConv)"]),
    ],
)
def test_one_odd_layer_stays_as_it_is_and_the_rest_are_layers(kind: type[Net], layers: list[str], fixed: str) -> None:
    network = analyse_network(kind().eval(), SHAPE)
    assert [layer.name for layer in network.layers if layer.op != "add"] == layers
    assert [str(layer) for layer in network.fixed] == fixed


def test_a_norm_that_does_not_fold_is_a_layer_and_exported_right(tools: Any, tmp_path: Any) -> None:
    import onnxruntime

    module = tools.warmed(PreActivation(), SHAPE)
    network = analyse_network(module, SHAPE)
    session = onnxruntime.InferenceSession(export_onnx(network.module, SHAPE).SerializeToString())
    image = torch.randn(1, *SHAPE)
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": image.numpy()})[0]), module(image).detach())
    assert [layer.name for layer in network.layers] == ["a", "norm", "b", "add", "fc"]


class InModes(Net):
    """What most people write around a body that they do not train, or compute in half precision."""

    def __init__(self, mode: Any) -> None:
        super().__init__()
        self.mode = mode

    def body(self, x: torch.Tensor) -> torch.Tensor:
        with self.mode():
            return (super().body(x) + self.b(x.repeat(1, 3, 1, 1)[:, :8])).float()


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.set_grad_enabled(False),
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.autocast("cuda", enabled=False),
    ],
    ids=["no_grad", "enable_grad", "set_grad_enabled", "autocast", "autocast_off"],
)
def test_layers_within_modes_of_torch_are_seen_and_compute_in_float32(mode: Any) -> None:
    module = InModes(mode).eval()
    network = analyse_network(module, SHAPE)
    assert [layer.name for layer in network.layers if layer.op != "add"] == ["a", "b", "fc"]
    inside = export_onnx(network.module, SHAPE, graph=network.graph).graph
    assert [node.name for node in inside.node if node.op_type in ("Conv", "Gemm")] == ["a", "b", "fc"]
    images = torch.randn(2, *SHAPE)
    module.mode = torch.no_grad
    torch.testing.assert_close(network.graph(images), module(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert module.fc(images.mean((2, 3)).repeat(1, 3)[:, :8]).dtype == torch.bfloat16  # the mode is on again
