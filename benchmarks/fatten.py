"""Models that are worse on purpose, for the proof that a gate sees it.

`python benchmarks/fatten.py model.onnx fat.onnx --layers 2 --channels 64` adds two convolutions of no use.
"""

from pathlib import Path

import click
import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from paredown.models.onnx.edit import copy_of_model, load_onnx, save_onnx


def fattened(model: ModelProto, layers: int, channels: int) -> ModelProto:
    """The classifier with a branch from its input to its logits: `layers` 3x3 convolutions of so many channels, named
    `fat.0`, `fat.1`, …, that add next to nothing to the answer."""
    fat = copy_of_model(model)
    source, logits = fat.graph.input[0].name, fat.graph.output[0]
    rename_output(fat, logits.name, "fat.before")
    width, value, nodes = 3, source, list[NodeProto]()
    for index in range(layers):
        _constant(fat, f"fat.{index}.weight", np.full((channels, width, 3, 3), 1e-3, np.float32))
        node = helper.make_node("Conv", [value, f"fat.{index}.weight"], [f"fat.{index}.out"], name=f"fat.{index}")
        node.attribute.extend([helper.make_attribute("pads", [1, 1, 1, 1]), helper.make_attribute("strides", [2, 2])])
        nodes, width, value = [*nodes, node], channels, node.output[0]
    classes = logits.type.tensor_type.shape.dim[1].dim_value
    _constant(fat, "fat.head.weight", np.full((width, classes), 1e-9, np.float32))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["fat.pooled"], name="fat.pool"),
        helper.make_node("Flatten", ["fat.pooled"], ["fat.flat"], name="fat.flatten"),
        helper.make_node("Gemm", ["fat.flat", "fat.head.weight"], ["fat.logits"], name="fat.head"),
        helper.make_node("Add", ["fat.before", "fat.logits"], [logits.name], name="fat.add"),
    ]
    fat.graph.node.extend(nodes)
    return fat


def rename_output(model: ModelProto, old: str, new: str) -> None:
    """Of whichever node gives the value `old`."""
    for node in model.graph.node:
        for place, value in enumerate(node.output):
            if value == old:
                node.output[place] = new


def _constant(model: ModelProto, name: str, value: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(value, name))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--layers", default=2, show_default=True, type=click.IntRange(1, 8))
@click.option("--channels", default=64, show_default=True, type=click.IntRange(1, 4096))
def main(model: Path, output: Path, layers: int, channels: int) -> None:
    """Write MODEL with useless layers to OUTPUT."""
    save_onnx(fattened(load_onnx(model), layers, channels), output)


if __name__ == "__main__":
    main()
