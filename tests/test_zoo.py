"""One small member of every family of convolutional classifiers, from its name to int8 on onnxruntime.

The weights are random: what is tested is that every step finds, changes and exports the same network.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paredown.models.data import Data
from paredown.models.fake_quant import insert
from paredown.models.graph import analyse
from paredown.models.load import ModelSpec, load_model
from paredown.models.onnx_graph import export, save
from paredown.models.qdq import quantize, quantized_values, units
from paredown.models.surgery import channel_groups, prune
from paredown.stages.cost import form_of, size_mib
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.transforms.base import Subject
from paredown.stages.transforms.narrow import Narrow, kept
from paredown.stages.transforms.quantize import Quantize

SHAPE = (3, 64, 64)
ZOO = {
    "torchvision/resnet18": 10,
    "torchvision/mobilenet_v2": 20,
    "torchvision/mobilenet_v3_small": 10,
    "torchvision/efficientnet_b0": 15,
    "timm/resnet10t": 6,
    "timm/mobilenetv2_050": 20,
    "timm/mobilenetv3_small_050": 10,
    "timm/tf_efficientnet_lite0": 20,
    "timm/efficientnet_b0": 15,
}
"""Model to the least number of channel groups that must be found."""

INT8 = "int8"


@pytest.fixture(scope="module", params=ZOO)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def original(source: str, tools: Any) -> torch.nn.Module:
    return tools.warmed(load_model(ModelSpec(source=source), 10, Path(), head="keep"), SHAPE)


@pytest.fixture(scope="module")
def subject(original: torch.nn.Module, tools: Any) -> Subject:
    made: Subject = tools.subject_of(original, SHAPE)
    return made


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(4))


def halved(subject: Subject) -> dict[str, str]:
    return dict(Narrow().uniform(subject)[1])


def run(model: Any, images: torch.Tensor, folder: Path) -> np.ndarray:
    save(model, folder / "model.onnx")
    return OnnxRuntime().run(folder / "model.onnx", [images.numpy()], threads=1)


def test_its_layers_and_groups_are_found(source: str, subject: Subject, original: torch.nn.Module) -> None:
    modules = {
        name for name, m in original.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    }
    assert {layer.name for layer in subject.network.layers if layer.op != "add"} == modules
    assert [layer.name for layer in subject.network.layers] == units(subject.model)
    assert len(subject.groups) >= ZOO[source]


def test_torch_and_onnx_share_their_names(subject: Subject) -> None:
    values = {node.name for node in subject.network.graph.graph.nodes}
    assert set(quantized_values(subject.model, units(subject.model)).values()) <= values
    assert set(quantized_values(subject.model, units(subject.model)).values()) <= set(subject.ranges)


def test_the_baseline_is_the_original(
    original: torch.nn.Module, subject: Subject, images: torch.Tensor, tmp_path: Path
) -> None:
    with torch.no_grad():
        expected = original(images).numpy()
    assert np.abs(run(subject.model, images, tmp_path) - expected).max() < 1e-3 * expected.std()


def test_narrowed_in_torch_and_in_the_graph_is_the_same(
    subject: Subject, images: torch.Tensor, tmp_path: Path
) -> None:
    choice = halved(subject)
    module = prune(subject.network.module, SHAPE, kept(subject, choice))
    with torch.no_grad():
        expected, plain = module(images).numpy(), subject.network.graph(images).numpy()
    got = run(Narrow().lower(subject, choice, subject.model), images, tmp_path)
    assert np.abs(got - expected).max() < 1e-3 * plain.std()
    assert np.abs(expected - plain).mean() > 1e-2 * plain.std()


def test_narrowed_for_real_and_in_int8_it_runs_as_torch_imitates_it(
    original: torch.nn.Module, subject: Subject, images: torch.Tensor, tools: Any, tmp_path: Path
) -> None:
    """The way of `compress`, `recover` and `export`: surgery on the user's own module, then QDQ."""
    choice = halved(subject)
    student: Subject = tools.subject_of(Narrow().apply(subject, choice, original), SHAPE)
    for layer in subject.network.layers:
        form = form_of(subject, [Narrow()], layer, choice)
        found = student.network.layer(layer.name)
        assert (found.channels_in, found.channels_out) == (form.channels_in, form.channels_out)
    chosen = units(student.model)
    origins = set(quantized_values(student.model, chosen).values())
    imitation = insert(student.network.graph, {v: student.ranges[v] for v in origins}, chosen, 7)
    with torch.no_grad():
        expected, plain = imitation(images).numpy(), student.network.graph(images).numpy()
    model = quantize(student.model, chosen, student.ranges, 7)
    got = run(model, images, tmp_path)
    assert np.abs(got - expected).mean() < 0.5 * np.abs(expected - plain).mean()
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.9
    size = size_mib(student, [Quantize()], Quantize().uniform(student)[0])
    assert size == pytest.approx((tmp_path / "model.onnx").stat().st_size / 2**20, rel=0.15)


def test_its_weighted_layers_run_in_integers(subject: Subject, tmp_path: Path) -> None:
    save(quantize(subject.model, units(subject.model), subject.ranges, 7), tmp_path / "model.onnx")
    kinds = [kind for kind, _ in OnnxRuntime().optimised(tmp_path / "model.onnx")]
    assert kinds.count("QLinearConv") == sum(layer.op == "conv" for layer in subject.network.layers)
    assert "Conv" not in kinds
    assert "FusedConv" not in kinds
    joins = sum(layer.op == "add" for layer in subject.network.layers)
    assert kinds.count("QLinearAdd") >= joins
