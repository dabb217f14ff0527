"""From a library to a proven artifact in which a block was replaced."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from paredown.models.network.trace import channel_source
from paredown.pipeline.report.report import render_report
from paredown.stages.analysis.plan_network import picks_of
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import State
from paredown.stages.limits import Bound, Limits
from paredown.stages.products.plan import Plan
from paredown.stages.training.distillation import feature_points
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.student import load_compressed
from paredown.stages.transforms.loading import profiled_transforms
from paredown.stages.transforms.narrow import Narrow

LIMITS = Limits(latency_p50=Bound(value=0.12, unit="x"), size=Bound(value=0.6, unit="x"))
SHORT = Schedule(epochs=1, lr=1e-3)
STAGES: dict[str, dict[str, Any]] = {
    "library": {"blocks": ["inverted_residual", "depthwise_separable"], "images": 64, "steps": 16, "keep": 3},
    "profile": {"transforms": ["quantize", "substitute", "narrow"], "plans": 4, "images": 32},
    "sensitivity": {"images": 8, "plans": 6},
    "search": {"front": 3, "rounds": 4},
    "compress": {"batches": 2},
    "recover": {"distil": SHORT, "quantize": SHORT},
    "export": {"agreement": 0.8},
    "verify": {"rounds": 1, "runs": 1},
}


@pytest.fixture(scope="module")
def hybrid(started: State, run: Callable[..., State], tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state after all stages, with every product under its own name in one folder."""
    folder = tmp_path_factory.mktemp("hybrid")
    (folder / "baseline").symlink_to(started.product("baseline"))
    state = replace(started, limits=LIMITS)
    for name, options in STAGES.items():
        state = run(state, name, folder, **options)
    return state


def picked(state: State) -> str:
    return picks_of(Plan.load(state.product("plan")).choice)["block"]


def test_the_search_replaces_the_block(hybrid: State) -> None:
    assert picked(hybrid).startswith(("inverted_residual", "depthwise_separable"))
    plan = json.loads((hybrid.product("plan") / "plan.json").read_text())
    (block,) = plan["blocks"]
    assert block["picked"] == picked(hybrid)
    offers = {told["name"]: told for told in block["candidates"]}
    assert offers[block["picked"]]["ms"]["8"] < offers["keep"]["ms"]["8"]
    assert block["candidates"][0] == offers["keep"] and offers["keep"]["loss"] == 0
    losses = {site["name"]: site for site in plan["sites"]}["substitute:block"]["losses"]
    assert losses == [told["loss"] for told in block["candidates"]]


def test_sites_of_what_is_not_there_are_not_in_the_plan(hybrid: State) -> None:
    choice = Plan.load(hybrid.product("plan")).choice
    assert "narrow:block.conv1" not in choice
    assert any(site.startswith(f"quantize:block.instead.{picked(hybrid)}.") for site in choice)


def test_layers_of_the_plan_are_those_of_the_artifact(hybrid: State) -> None:
    names = [layer.name for layer in Plan.load(hybrid.product("plan")).layers if layer.op != "add"]
    assert any(name.startswith(f"block.instead.{picked(hybrid)}.") for name in names)
    assert not any(name.startswith("block.conv") for name in names)
    model = onnx.load(hybrid.product("artifact") / "model.onnx")
    assert [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")] == names


def test_the_students_block_starts_as_its_trained_replacement(hybrid: State) -> None:
    """What compress leaves is the library's module, narrowed, with batch norms estimated again."""
    data = hybrid.open_data()
    student, prepared = load_compressed(hybrid, data), load_prepared_model(hybrid)
    trained = prepared.replacements["block"][picked(hybrid)]
    before = {tuple(row.flatten().tolist()) for row in _last_conv(trained).weight}
    after = {tuple(row.flatten().tolist()) for row in _last_conv(student.get_submodule("block")).weight}
    if _last_conv(trained).in_channels == _last_conv(student.get_submodule("block")).in_channels:
        assert after <= before
    assert len(after) <= len(before)


def _last_conv(module: nn.Module) -> nn.Conv2d:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]


def test_the_student_is_told_where_the_block_ends(hybrid: State) -> None:
    data = hybrid.open_data()
    plan, teacher = Plan.load(hybrid.product("plan")), load_teacher(hybrid, data)
    points = feature_points(load_prepared_model(hybrid), profiled_transforms(hybrid), plan.choice, teacher)
    assert set(points) == {"block"}
    student = load_compressed(hybrid, data)
    seen: list[torch.Tensor] = []
    student.get_submodule("block").register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        student.eval()(torch.zeros(1, 3, 24, 24))
    assert seen[0].shape[1] == len(points["block"])


def test_points_follow_the_channels_that_stay(supernet: PreparedModel, net: nn.Module) -> None:
    source = channel_source(supernet.network, supernet.branches[0].values["keep"])
    group = next(group for group in supernet.groups if source in group.outputs)
    points = feature_points(supernet, [Narrow()], {"substitute:block": "wide", f"narrow:{group.name}": "8"}, net)
    assert points == {"block": sorted(supernet.channel_ranking[group.name][:8])}


def test_the_artifact_holds_its_limits(hybrid: State) -> None:
    manifest = json.loads((hybrid.product("artifact") / "manifest.json").read_text())
    assert manifest["plan"] == Plan.load(hybrid.product("plan")).choice
    assert {check["name"] for check in manifest["checks"] if check["holds"]} == {"latency p50", "size"}
    accuracy = manifest["artifact"]["accuracy"]["test"]
    assert np.isfinite(accuracy) and accuracy > 33


def test_the_report_says_which_block_became_what(hybrid: State) -> None:
    page = render_report(hybrid.product("plan").parent).read_text()
    assert "Which block became what, and why" in page
    assert "1 of 1 blocks were replaced" in page
    section = page.split('id="h-blocks"')[1].split("</section>")[0]
    assert picked(hybrid).replace("_", " ") in section
    assert "saves" in section


def test_a_kept_block_is_told_what_the_best_offer_was(hybrid: State, tmp_path: Path) -> None:
    for product in ("baseline", "library", "plan"):
        (tmp_path / product).mkdir()
        for file in hybrid.product(product).iterdir():
            (tmp_path / product / file.name).write_bytes(file.read_bytes())
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    plan["blocks"][0]["picked"] = "keep"
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(plan))
    page = render_report(tmp_path).read_text()
    assert "0 of 1 blocks were replaced" in page
    assert "at best " in page
