"""One small member of every family of convolutional classifiers, from its name to int8 on onnxruntime.

The weights are random: what is tested is that every step finds, changes and exports the same network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paredown.models.compression.channel_groups import channel_groups, remove_channels
from paredown.models.compression.fake_quant import imitate_int8
from paredown.models.compression.qdq import UNIT_RANGE, insert_qdq, quantizable_nodes, quantized_values
from paredown.models.loading.model import load_model
from paredown.models.loading.spec import ModelSpec
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.trace import Network, analyse_network
from paredown.models.onnx.edit import save_onnx
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

SHAPE = (3, 64, 64)
ZOO = {
    "torchvision/resnet18": 12,
    "torchvision/mobilenet_v2": 24,
    "torchvision/mobilenet_v3_small": 20,
    "torchvision/efficientnet_b0": 25,
    "timm/resnet10t": 8,
    "timm/mobilenetv2_050": 24,
    "timm/mobilenetv3_small_050": 20,
    "timm/tf_efficientnet_lite0": 24,
    "timm/efficientnet_b0": 25,
}
"""Model to the least number of channel groups that must be found."""

LOWERED = ("torchvision/mobilenet_v3_small", "timm/resnet10t")
"""Models that are also narrowed inside the ONNX graph, which costs a second export."""


@dataclass(frozen=True)
class Member:
    source: str
    original: nn.Module
    network: Network
    groups: tuple[ChannelGroup, ...]
    kept: dict[str, list[int]]
    student: PreparedModel


@pytest.fixture(scope="module", params=ZOO)
def member(request: pytest.FixtureRequest, tools: Any) -> Member:
    """The model, and half of it: every other channel of every group is taken out of the user's own module."""
    source = str(request.param)
    torch.manual_seed(0)  # whatever ran before: what int8 does to random weights depends on which they are
    original = tools.warmed(load_model(ModelSpec(source=source), 10, Path(), head="keep"), SHAPE)
    network = analyse_network(original, SHAPE)
    groups = channel_groups(network.module, SHAPE, keep=[network.layers[-1].name])
    stay = {group.name: list(range(0, group.width, 2)) for group in groups}
    return Member(
        source, original, network, groups, stay, tools.subject_of(remove_channels(original, SHAPE, stay), SHAPE)
    )


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(4))


def answers(module: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = module(images).numpy()
    return logits


def run(model: Any, images: torch.Tensor, folder: Path) -> np.ndarray:
    save_onnx(model, folder / "model.onnx")
    return OnnxRuntime().run(folder / "model.onnx", [images.numpy()], threads=1)


def test_its_layers_and_groups_are_found(member: Member) -> None:
    weighted = {name for name, m in member.original.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {layer.name for layer in member.network.layers if layer.op != "add"} == weighted
    assert len(member.groups) >= ZOO[member.source]
    grouped = {name for group in member.groups for name in group.outputs}
    assert len(grouped) >= 0.9 * (len(weighted) - 1)


def test_the_trace_computes_what_the_model_computes(member: Member, images: torch.Tensor) -> None:
    expected = answers(member.original, images)
    assert np.abs(answers(member.network.graph, images) - expected).max() < 1e-3 * expected.std()


def test_half_of_it_is_half_as_wide(member: Member) -> None:
    before = {layer.name: layer for layer in member.network.layers}
    after = {layer.name: layer for layer in member.student.network.layers}
    assert before.keys() == after.keys()
    for group in member.groups:
        for name in group.outputs:
            assert after[name].channels_out == len(member.kept[group.name]) < before[name].channels_out
        for name in group.inputs:
            assert after[name].channels_in < before[name].channels_in


def test_torch_and_onnx_share_their_names(member: Member) -> None:
    model, values = member.student.model, {node.name for node in member.student.network.graph.graph.nodes}
    assert quantizable_nodes(model) == [layer.name for layer in member.student.network.layers]
    kinds = {node.output[0]: node.op_type for node in model.graph.node}
    unnamed = set(quantized_values(model, quantizable_nodes(model)).values()) - values
    # The exporter takes SiLU apart; the range of a sigmoid needs no measuring.
    assert {kinds[value] for value in unnamed} <= set(UNIT_RANGE)


def test_its_export_computes_what_torch_computes(member: Member, images: torch.Tensor, tmp_path: Path) -> None:
    expected = answers(member.student.network.module, images)
    assert np.abs(run(member.student.model, images, tmp_path) - expected).max() < 1e-3 * expected.std()


def test_in_int8_it_computes_what_torch_imitates(member: Member, images: torch.Tensor, tmp_path: Path) -> None:
    prepared, chosen = member.student, quantizable_nodes(member.student.model)
    expected = answers(imitate_int8(prepared.network.graph, prepared.ranges, chosen, prepared.weight_bits), images)
    plain = answers(prepared.network.graph, images)
    got = run(insert_qdq(prepared.model, chosen, prepared.ranges, prepared.weight_bits), images, tmp_path)
    assert np.abs(got - expected).mean() < 0.6 * np.abs(expected - plain).mean()
    assert np.abs(got - expected).mean() < 0.2 * plain.std()
    size = PlanSpace(prepared, (Quantize(),)).size_mib(Quantize().uniform(prepared)[0])
    file = (tmp_path / "model.onnx").stat().st_size / 2**20
    nodes = len(prepared.model.graph.node) * 1024 / 2**20
    assert size < file < 1.02 * size + nodes


def test_its_layers_run_in_integers(member: Member, tmp_path: Path) -> None:
    prepared = member.student
    save_onnx(
        insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 7), tmp_path / "model.onnx"
    )
    kinds = [kind for kind, _ in OnnxRuntime().optimised(tmp_path / "model.onnx")]
    ops = [layer.op for layer in prepared.network.layers]
    assert kinds.count("QLinearConv") == ops.count("conv")
    assert kinds.count("QLinearAdd") == ops.count("add")
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm"} & set(kinds)


@pytest.mark.parametrize("source", LOWERED)
def test_narrowed_in_the_graph_is_narrowed_in_torch(
    source: str, images: torch.Tensor, tools: Any, tmp_path: Path
) -> None:
    original = tools.warmed(load_model(ModelSpec(source=source), 10, Path(), head="keep"), SHAPE)
    prepared, narrow = tools.subject_of(original, SHAPE), Narrow()
    choice = narrow.uniform(prepared)[1]
    module = narrow.apply(prepared, choice, prepared.network.module)
    expected, plain = answers(module, images), answers(prepared.network.graph, images)
    got = run(narrow.lower(prepared, choice, prepared.model), images, tmp_path)
    assert np.abs(got - expected).max() < 1e-3 * plain.std()
    assert np.abs(expected - plain).mean() > 1e-2 * plain.std()
