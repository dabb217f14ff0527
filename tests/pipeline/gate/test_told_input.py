"""What an artifact says of its input is held against the images of the gate."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from paredown.models.data.spec import DataSpec
from paredown.models.onnx.metadata import embed_metadata
from paredown.pipeline.gate.told_input import input_difference

TOLD: dict[str, Any] = {
    "shape": [1, 3, 8, 8],
    "channels": "RGB",
    "range": [0, 1],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_mode": "center",
    "crop_pct": 0.875,
    "interpolation": "bicubic",
}


def model(folder: Path, facts: dict[str, Any] | None) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [made])
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if facts is not None:
        embed_metadata(built, facts)
    onnx.save(built, folder / "model.onnx")
    return folder / "model.onnx"


def data(**fields: Any) -> DataSpec:
    return DataSpec(**{"source": "images", "image_size": 8, **fields})


def test_what_differs_is_said(tmp_path: Path) -> None:
    file = model(tmp_path, {"model": {}, "input": TOLD})
    assert input_difference(file, data(crop_pct=0.875, interpolation="bicubic")) == ""
    assert input_difference(file, data(mean=(0.5, 0.5, 0.5))) == (
        "the file says that its input has crop_pct 0.875, interpolation bicubic, mean (0.485, 0.456, 0.406), "
        "data has crop_pct 1.0, interpolation bilinear, mean (0.5, 0.5, 0.5)"
    )


@pytest.mark.parametrize(
    "facts",
    [
        None,
        {"model": {}},
        {"model": 3},
        {"model": {}, "input": {**TOLD, "crop_pct": 0}},
        {"model": {}, "input": {**TOLD, "crop_mode": "middle"}},
        {"model": {}, "input": {**TOLD, "mean": [123.7, 116.3, 103.5]}},
        {"model": {}, "input": {name: TOLD[name] for name in ("shape", "channels", "range", "mean", "std")}},
    ],
    ids=str,
)
def test_files_that_say_nothing_nonsense_or_as_much_as_earlier_ones_differ_in_nothing(
    facts: dict[str, Any] | None, tmp_path: Path
) -> None:
    assert input_difference(model(tmp_path, facts), data()) == ""
