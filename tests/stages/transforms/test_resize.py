"""A smaller input, chosen by the search together with precision and widths, from its sides to the artifact."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from paredown.models.compression.qdq import quantized_values
from paredown.models.onnx.edit import constant_arrays, save_onnx, value_shapes
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.limits import Bound, Limits
from paredown.stages.planning.layer_times import owning_layers
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.products.plan import Plan
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.solvers.problem import Choice
from paredown.stages.training.distillation import Distillation, LossWeights
from paredown.stages.training.schedule import Schedule
from paredown.stages.transforms.loading import load_transforms
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.resize import Resize

ALL = (Narrow(), Resize(), Quantize())
SMALL = {"resize:input": "16"}


@pytest.fixture(scope="module")
def images(tools: Any) -> torch.Tensor:
    return torch.randn(16, *tools.shape, generator=torch.Generator().manual_seed(3))


def int8(prepared: PreparedModel) -> Choice:
    return {**SMALL, **Quantize().uniform(prepared)[0]}


def lowered(prepared: PreparedModel, choice: Choice) -> onnx.ModelProto:
    model = prepared.model
    for transform in ALL:
        model = transform.lower(prepared, choice, model)
    return model


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({}, ("24", "16")),
        ({"round_to": 4}, ("24", "20", "16")),
        ({"levels": (1.0, 0.5, 0.01), "round_to": 2}, ("24", "12", "2")),
    ],
)
def test_sides_are_rounded_and_smaller_than_the_input(
    prepared: PreparedModel, options: dict[str, Any], sides: tuple[str, ...]
) -> None:
    (site,) = Resize(**options).sites(prepared)
    assert tuple(candidate.name for candidate in site.candidates) == sides


def test_without_a_smaller_side_there_is_no_site(prepared: PreparedModel) -> None:
    large = Resize(levels=(0.99,))
    assert large.sites(prepared) == large.uniform(prepared) == ()
    assert not any(large.touching(prepared, layer) for layer in prepared.network.layers)


def test_it_is_applied_behind_widths_and_before_precision() -> None:
    named: dict[str, dict[str, Any]] = {name: {} for name in ("quantize", "narrow", "resize", "substitute")}
    assert list(load_transforms(named, Path())) == [
        "substitute",
        "narrow",
        "resize",
        "quantize",
    ]


def test_int8_layers_read_the_shrunk_image_and_never_the_whole(prepared: PreparedModel) -> None:
    values = quantized_values(lowered(prepared, SMALL), [layer.name for layer in prepared.network.layers])
    assert "shrunk" in values
    assert "x" not in values


def test_together_with_int8_the_file_computes_what_is_imitated(
    prepared: PreparedModel, images: torch.Tensor, tmp_path: Path
) -> None:
    choice, graph = int8(prepared), copy.deepcopy(prepared.network.graph)
    for transform in ALL:
        graph = transform.imitate(prepared, choice, graph)
    save_onnx(lowered(prepared, choice), tmp_path / "model.onnx")
    got = OnnxRuntime().run(tmp_path / "model.onnx", [images.numpy()], 1)
    with torch.no_grad():
        expected, plain = graph(images).numpy(), prepared.network.graph(images).numpy()
    assert np.abs(got - expected).mean() < 0.1 * np.abs(expected - plain).mean()


def test_a_judge_leaves_the_trace_as_it_was(prepared: PreparedModel, images: torch.Tensor) -> None:
    plain = prepared.network.graph(images)
    judge = TeacherComparison(PlanSpace(prepared, ALL), images)
    assert judge.loss(SMALL) > 0
    assert judge.loss({**SMALL, "narrow:block.conv1": "8"}) != judge.loss(SMALL)
    assert judge.loss({}) == pytest.approx(0, abs=1e-6)
    assert torch.equal(prepared.network.graph(images), plain)


def test_the_shrink_is_timed_with_the_layer_that_reads_it(prepared: PreparedModel) -> None:
    assert owning_layers(lowered(prepared, SMALL), ["shrunk"], {}) == {"shrunk": "stem.0"}
    assert owning_layers(lowered(prepared, int8(prepared)), ["shrunk"], {}) == {"shrunk": "stem.0"}


def test_a_student_with_smaller_maps_is_told_the_teachers_features(net: nn.Module, images: torch.Tensor) -> None:
    student = Resize().apply(_named(net), SMALL, net).train()
    loss = Distillation(net, student, LossWeights(0.0, 0.0, 1.0, 2.0), {"block.bn2": list(range(16))})
    loss(student, images, torch.arange(16) % 3).backward()
    assert loss.wanted["block.bn2"].shape[2:] == (12, 12)
    assert loss.learnt["block.bn2"].shape[2:] == (8, 8)
    assert float(student.get_parameter("block.conv1.weight").grad.abs().sum()) > 0  # type: ignore[union-attr]
    loss.close()


def _named(net: nn.Module) -> Any:
    """All that `apply` asks of a subject: the network's shape."""

    class Shaped:
        shape = (3, 24, 24)

    class Named:
        network = Shaped

    return Named


@pytest.fixture(scope="module")
def shrunk(started: State, run: Any, tmp_path_factory: pytest.TempPathFactory) -> State:
    """A whole run under a limit that neither int8 nor the smaller input holds alone."""
    root = tmp_path_factory.mktemp("resize")
    for name in ("net.py", "exact.py", "net.pth", "images.npz"):
        (root / name).write_bytes((started.root / name).read_bytes())
    limits = Limits(latency_p50=Bound(value=0.36, unit="x"))
    state = replace(started, root=root, out=root, limits=limits)
    state = run(state, "profile", transforms=("quantize", "resize"), plans=4, images=32)
    state = run(state, "sensitivity", images=8, plans=6)
    state = run(state, "search", front=2, rounds=4)
    state = run(state, "compress", batches=2)
    short = Schedule(epochs=1, lr=1e-3)
    state = run(state, "recover", distil=short, quantize=short)
    return run(run(state, "export", agreement=0.8), "verify", rounds=1, runs=1)


def test_a_limit_that_needs_it_makes_the_search_choose_it(shrunk: State) -> None:
    choice = Plan.load(shrunk.product("plan")).choice
    assert choice["resize:input"] == "16"
    assert "int8" in choice.values()
    plan = json.loads((shrunk.product("plan") / "plan.json").read_text())
    assert plan["predicted"]["latency"] == pytest.approx(plan["measured"]["latency"], rel=0.05)


def test_the_artifact_is_a_drop_in_replacement_and_holds_its_limit(shrunk: State) -> None:
    folder = shrunk.product("artifact")
    model, manifest = onnx.load(folder / "model.onnx"), json.loads((folder / "manifest.json").read_text())
    onnx.checker.check_model(model, full_check=True)
    assert value_shapes(model)["x"] == (1, 3, 24, 24)
    (reading,) = [node for node in model.graph.node if "x" in node.input]
    assert reading.op_type == "Resize"
    assert constant_arrays(model)[reading.input[3]].tolist() == [1, 3, 16, 16]
    held = {check["name"]: check["holds"] for check in manifest["checks"]}
    assert held["latency p50"] is True
    assert manifest["plan"]["resize:input"] == "16"


def test_the_artifact_agrees_with_what_was_trained(shrunk: State) -> None:
    parity = json.loads((shrunk.product("exported") / "parity.json").read_text())
    assert parity["agreement"] >= 0.95
    assert parity["mean_difference"] < 0.05 * parity["logit_spread"]
