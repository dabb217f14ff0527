"""Whose time a node's time is, where blocks can be replaced."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.onnx.edit import save_onnx
from paredown.stages.analysis.plan_network import network_of_plan, picks_by_name
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.blocks.base import conv_unit
from paredown.stages.planning.layer_times import owning_layers, plan_times
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.runtimes.support.ort_profile import node_durations
from paredown.stages.transforms.quantize import Quantize


class Padded(nn.Module):
    """A block that halves the map; its shortcut takes every other pixel and pads channels, as in CIFAR's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_unit((16, 32), 3, 2, act=nn.ReLU()), conv_unit((32, 32), 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        return torch.relu(self.body(x) + short)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.after = conv_unit((3, 16), 3, act=nn.ReLU()), Padded(), conv_unit((32, 32), 3)
        self.fc = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.after(self.block(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def padded(tools: Any) -> PreparedModel:
    torch.manual_seed(0)
    other = tools.warmed(nn.Sequential(conv_unit((16, 32), 3, 2), nn.ReLU()), (16, 24, 24))
    found: PreparedModel = tools.subject_of(tools.warmed(Net()), replacements={"block": {"other": other}})
    return found


def owners(prepared: PreparedModel) -> dict[str, str]:
    """Every node of the original's file, and the layer that its time counts for."""
    model = network_of_plan(prepared, {}).model
    return owning_layers(model, [node.name for node in model.graph.node], picks_by_name(prepared))


def test_what_a_block_does_to_its_input_is_its_own_time(padded: PreparedModel) -> None:
    """With the layer before, it would look as if it were there without the block."""
    found = owners(padded)
    moved = [name for name in found if name.startswith(("slice", "pad", "constant_pad"))]
    assert len(moved) >= 2
    assert {found[name] for name in moved} == {"add"}
    assert found["stem.conv"] == found["relu"] == "stem.conv"
    assert found["block.body.1.conv"] == "block.body.1.conv"
    assert {found[name] for name in found if name.startswith("mean")} == {"after.conv"}


def test_without_blocks_to_choose_from_it_counts_for_the_layer_before(padded: PreparedModel) -> None:
    model = network_of_plan(padded, {}).model
    moved = [node.name for node in model.graph.node if node.op_type == "Pad"]
    assert set(owning_layers(model, moved, {}).values()) == {"stem.conv"}


def test_a_change_of_layout_counts_for_the_node_that_needs_it(padded: PreparedModel, tmp_path: Path) -> None:
    """Convolutions compute in the blocked layout, slices cannot read it."""
    save_onnx(network_of_plan(padded, {}).model, tmp_path / "model.onnx")
    times = OnnxRuntime().node_times(tmp_path / "model.onnx", Load(1, 1), runs=2)
    changes = [name.partition("@")[::2] for name in times if name.startswith("+Reorder")]
    if not changes:
        pytest.skip("onnxruntime uses no blocked layout on this processor")
    model, picks = network_of_plan(padded, {}).model, picks_by_name(padded)
    for_slices = [name for op, name in changes if op == "+ReorderOutput" and name.startswith("slice")]
    names = [f"+ReorderOutput@{name}" for name in for_slices]
    assert list(owning_layers(model, names, picks).values()) == ["add"]


def call(name: str, op: str, us: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"op_name": op}}


def test_layout_changes_are_named_after_what_comes_next_or_came_before(padded: PreparedModel, tmp_path: Path) -> None:
    save_onnx(network_of_plan(padded, {}).model, tmp_path / "model.onnx")
    cut = next(node.name for node in network_of_plan(padded, {}).model.graph.node if node.op_type == "Slice")
    events = [
        call("reorder", "ReorderInput", 1),
        call("stem.conv", "Conv", 2),
        call("reorder_token_1", "ReorderOutput", 3),
        call(cut, "Slice", 4),
        call("add", "Add", 5),
        call("reorder_2", "ReorderInput", 6),
        call("after.conv", "Conv", 7),
        call("reorder_3", "ReorderOutput", 8),
    ]
    names = [node.name for node in network_of_plan(padded, {}).model.graph.node]
    assert {cut, "add", "after.conv"} <= set(names)
    assert node_durations(tmp_path / "model.onnx", events) == {
        "+ReorderInput": [1],
        "stem.conv": [2],
        f"+ReorderOutput@{cut}": [3],
        cut: [4],
        "add": [5],
        "+ReorderInput@add": [6],
        "after.conv": [7],
        "+ReorderOutput": [8],
    }


def test_conversions_count_for_the_layer_whose_value_is_converted(prepared: PreparedModel) -> None:
    space = PlanSpace(prepared, (Quantize(),))
    model = space.lower({"quantize:block.conv2": "int8"})
    times = {node.name: 1.0 for node in model.graph.node if node.op_type not in ("DequantizeLinear",)}
    times |= {node.name: 1.0 for node in model.graph.node if node.name.startswith("relu") and ".dq" in node.name}
    found = plan_times(model, times, sum(times.values()), picks_by_name(prepared))
    assert found.conversions.keys() == {"block.conv1", "block.conv2"}
    assert found.total == pytest.approx(sum(times.values()))
    moved = plan_times(model, {**times, "+Transpose@conv2d_2.q": 1.0}, 1.0 + sum(times.values()), {})
    assert sum(moved.conversions.values()) <= sum(found.conversions.values()) + 1.0


def test_without_a_reader_or_a_maker_a_conversion_counts_for_the_layer_that_is_there(prepared: PreparedModel) -> None:
    """The network's input has no layer that makes it."""
    space = PlanSpace(prepared, (Quantize(),))
    model = space.lower({"quantize:stem.0": "int8"})
    found = plan_times(model, {"x.q": 2.0, "stem.0": 3.0}, 5.0, {})
    assert found.layers == pytest.approx({"stem.0": 5.0}) and not found.conversions
