"""Int8 imitated in torch agrees with the artifact, and lets gradients through."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paredown.models.compression.fake_quant import ActivationQuant, WeightQuant, imitate_int8, observe_ranges
from paredown.models.compression.qdq import insert_qdq, quantizable_nodes, quantized_values
from paredown.models.compression.scales import activation_scale, weight_scales
from paredown.models.onnx.edit import constant_arrays, copy_of_model, save_onnx, set_weight
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

SMALL = (3, 12, 12)


def imitated(prepared: PreparedModel, chosen: list[str], bits: int = 7) -> torch.fx.GraphModule:
    origins = set(quantized_values(prepared.model, chosen).values())
    return imitate_int8(prepared.network.graph, {v: prepared.ranges[v] for v in origins}, chosen, bits)


@pytest.mark.parametrize(
    "left", [[], ["block.conv1"], ["add"], ["depthwise", "pointwise.0"], ["stem.0", "fc"]], ids=str
)
def test_it_agrees_with_onnxruntime(prepared: PreparedModel, tmp_path: Path, tools: Any, left: list[str]) -> None:
    chosen = [name for name in quantizable_nodes(prepared.model) if name not in left]
    images = torch.randn(24, *tools.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected, plain = imitated(prepared, chosen)(images).numpy(), prepared.network.graph(images).numpy()
    save_onnx(insert_qdq(prepared.model, chosen, prepared.ranges, 7), tmp_path / "model.onnx")
    got = OnnxRuntime().run(tmp_path / "model.onnx", [images.numpy()], threads=1)
    rounding = np.abs(expected - plain).mean()
    assert rounding > 0
    assert np.abs(got - expected).mean() < 0.5 * rounding
    assert np.abs(got - expected).max() < 0.1 * expected.std()


def test_an_activation_is_rounded_to_the_same_integers() -> None:
    bounds = (-1.3, 2.9)
    scale, zero = activation_scale(bounds)
    x = torch.linspace(-2, 4, 101)
    integers = np.clip(np.rint(x.numpy() / scale) + zero, 0, 255)
    assert np.allclose(ActivationQuant(bounds)(x).numpy(), (integers - zero) * scale, atol=1e-6)


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_are_rounded_to_the_same_integers(bits: int) -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = weight_scales(weight.numpy(), bits).reshape(-1, 1, 1, 1)
    got = WeightQuant(bits)(weight).numpy()
    assert np.allclose(got, np.rint(weight.numpy() / steps) * steps, atol=1e-6)
    assert len(np.unique(got[0])) <= 2**bits - 1


def test_weights_between_two_integers_are_rounded_as_in_the_file(prepared: PreparedModel) -> None:
    """Few are, but a network has millions: one of MobileNetV2's was another integer in the file than in torch."""
    weight = prepared.network.module.get_parameter("block.conv1.weight").detach().clone()
    flat = weight.reshape(len(weight), -1)
    steps = torch.rand(len(weight), 1, generator=torch.Generator().manual_seed(0)) + 0.5
    flat.copy_(steps * (torch.arange(flat.shape[1]) % 126 + 0.5))
    flat[:, -1] = 127 * steps[:, 0]
    model = copy_of_model(prepared.model)
    set_weight(model, "block.conv1.weight", weight.numpy())
    stored = constant_arrays(insert_qdq(model, ["block.conv1"], prepared.ranges, 8))
    integers, scale = stored["block.conv1.weight.q"], stored["block.conv1.weight.scale"].reshape(-1, 1, 1, 1)
    assert (np.rint(WeightQuant(8)(weight).numpy() / scale) == integers).all()
    assert (np.rint(weight.numpy() / scale) != integers).any()  # as divided


def test_the_scale_follows_the_weight() -> None:
    quant, weight = WeightQuant(8), torch.ones(2, 3)
    assert torch.allclose(quant(weight * 7), weight * 7)
    assert torch.allclose(quant(weight * 0.01), weight * 0.01)


def test_gradients_reach_every_weight(prepared: PreparedModel, tools: Any) -> None:
    graph = imitated(prepared, quantizable_nodes(prepared.model))
    graph(torch.randn(4, *tools.shape)).square().sum().backward()
    named = dict(graph.named_parameters())
    assert set(named) == {name for name, _ in prepared.network.module.named_parameters()}
    assert all(float(p.grad.abs().sum()) > 0 for p in named.values() if p.grad is not None and p.ndim > 1)
    assert all(p.grad is not None for p in named.values())


def test_the_original_trace_is_left_untouched(prepared: PreparedModel) -> None:
    before = len(prepared.network.graph.graph.nodes)
    changed = imitated(prepared, quantizable_nodes(prepared.model))
    assert len(prepared.network.graph.graph.nodes) == before < len(changed.graph.nodes)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    assert not torch.equal(next(changed.parameters()), next(prepared.network.graph.parameters()))


def test_no_layers_change_nothing(prepared: PreparedModel, tools: Any) -> None:
    images = torch.randn(2, *tools.shape)
    assert torch.equal(imitated(prepared, [])(images), prepared.network.graph(images))


def test_ranges_leave_rare_outliers_out(prepared: PreparedModel, tools: Any) -> None:
    images = torch.randn(32, *tools.shape, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    images[0, 0, 0, 0] = 1e6
    batches = [images, images.clamp(-4, 4)]
    low, high = observe_ranges(prepared.network.graph, batches, ["x"])["x"]
    assert 2 < high < 6
    assert -6 < low < -2
    assert observe_ranges(prepared.network.graph, batches, ["x"], percentile=100)["x"][1] == pytest.approx(
        5e5, rel=0.01
    )


def test_ranges_are_averaged_over_batches(prepared: PreparedModel, tools: Any) -> None:
    batches = [torch.full((2, *tools.shape), value) for value in (1.0, 3.0)]
    assert observe_ranges(prepared.network.graph, batches, ["x"])["x"] == (2.0, 2.0)


def test_a_value_that_is_not_there_has_no_range(prepared: PreparedModel, tools: Any) -> None:
    assert set(observe_ranges(prepared.network.graph, [torch.randn(2, *tools.shape)], ["x", "nothing"])) == {"x"}


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.b(nn.functional.silu(self.a(x))))
        out: torch.Tensor = self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def unoptimised(model: onnx.ModelProto, images: torch.Tensor) -> np.ndarray:
    """What the file says, without the kernels' own rounding."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(None, {"x": image[None].numpy()})[0] for image in images])


@pytest.mark.parametrize("smooth", [False, True], ids=["relu and add", "silu"])
def test_it_is_what_the_file_says_to_a_step(prepared: PreparedModel, tools: Any, smooth: bool) -> None:
    """Biases and the sigmoid inside SiLU are rounded as well: what is left is a value on a border, here and there."""
    torch.manual_seed(0)
    taken = tools.subject_of(Smooth().eval(), SMALL) if smooth else prepared
    images = torch.randn(24, *taken.network.shape)
    chosen = quantizable_nodes(taken.model)
    values = {node.name for node in taken.network.graph.graph.nodes}
    origins = set(quantized_values(taken.model, chosen).values()) & values
    graph = imitate_int8(taken.network.graph, {v: taken.ranges[v] for v in origins}, chosen, 7)
    with torch.no_grad():
        expected, plain = graph(images).numpy(), taken.network.graph(images).numpy()
    said = unoptimised(insert_qdq(taken.model, chosen, taken.ranges, 7), images)
    assert np.abs(said - expected).mean() < 0.1 * np.abs(expected - plain).mean()
