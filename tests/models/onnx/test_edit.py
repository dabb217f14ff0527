"""The exported file: its names, its form, and that it is the same every time."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paredown.models.errors import InputError
from paredown.models.onnx.edit import (
    constant_arrays,
    consumers_of_values,
    copy_of_model,
    producers_of_values,
    save_onnx,
    set_weight,
    value_shapes,
)
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.prepared_model import PreparedModel


class Flat(nn.Module):
    """A fixed flattening, and a mean that is not over space."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.adaptive_avg_pool2d(torch.relu(self.conv(x)), 1).flatten(1)
        out: torch.Tensor = self.fc(x)
        return out - out.mean(1, keepdim=True)


class Strange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(torch.special.i0e(x).mean((2, 3)))
        return out


def run(model: onnx.ModelProto, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return torch.from_numpy(session.run(None, {"x": images.numpy()})[0])


def test_it_computes_what_the_module_computes(net: nn.Module, prepared: PreparedModel, tools: Any) -> None:
    image = torch.randn(1, *tools.shape)
    torch.testing.assert_close(run(prepared.model, image), net(image).detach(), rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(prepared.model, full_check=True)


def test_a_batch_is_static(net: nn.Module, tools: Any) -> None:
    model = export_onnx(net, tools.shape, batch=3)
    assert value_shapes(model)["x"] == (3, *tools.shape)
    images = torch.randn(3, *tools.shape)
    torch.testing.assert_close(run(model, images), net(images).detach(), rtol=1e-4, atol=1e-5)


def test_layers_are_named_by_their_modules_and_norms_are_gone(prepared: PreparedModel) -> None:
    named = {node.name: node.op_type for node in prepared.model.graph.node}
    assert named["block.conv2"] == "Conv"
    assert named["fc"] == "Gemm"
    assert named["add"] == "Add"
    assert "BatchNormalization" not in named.values()
    assert "GlobalAveragePool" in named.values()
    assert "ReduceMean" not in named.values()


def test_a_mean_over_classes_stays_a_mean_and_flattening_frees_the_channels() -> None:
    model = export_onnx(Flat().eval(), (3, 8, 8))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("ReduceMean") == 1
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    assert constant_arrays(model)[reshape.input[1]].tolist() == [1, -1]


def test_two_exports_are_the_same_bytes(net: nn.Module, tools: Any, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        save_onnx(export_onnx(net, tools.shape), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert str(Path(__file__).parent) not in files[0].read_bytes().decode("latin1")


def test_what_torch_cannot_export_is_one_line() -> None:
    with pytest.raises(InputError, match="cannot be exported to ONNX") as caught:
        export_onnx(Strange().eval(), (3, 8, 8))
    assert "\n" not in str(caught.value)


def test_weights_are_replaced_or_added(prepared: PreparedModel) -> None:
    model = copy_of_model(prepared.model)
    set_weight(model, "fc.bias", np.array([1, 2, 3], np.float32))
    set_weight(model, "new", np.zeros(2, np.float32))
    assert constant_arrays(model)["fc.bias"].tolist() == [1, 2, 3]
    assert constant_arrays(model)["new"].shape == (2,)
    assert "new" not in constant_arrays(prepared.model)
    assert len(model.graph.initializer) == len(prepared.model.graph.initializer) + 1


def test_producers_and_consumers_agree(prepared: PreparedModel) -> None:
    made, readers = producers_of_values(prepared.model), consumers_of_values(prepared.model)
    for value, node in made.items():
        assert value in node.output
        assert all(value in reader.input for reader in readers.get(value, []))
    assert {node.name for node in readers["x"]} == {"stem.0"}
