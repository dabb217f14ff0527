"""How far int8 files lie from the torch networks that they were made of, and how much of that is rounding.

Every layer is int8 and nothing is trained. Differences are those of the logits as a share of their spread (root mean
squares, each image's mean taken off), on validation images. Four columns answer four questions: how far is the file, as
the runtime optimises it, from torch; how far is torch from itself when all that it rounds is larger by a millionth; how
far is the file from itself with and without the runtime's optimisations; and, where torch is given the file's own
values in front of every layer, how many of the values that it rounds are other integers, and by how many steps.

A subject is a recipe, or the name of a timm network, which gets random weights and the images of the first recipe.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from paredown.models.compression.fake_quant import ActivationQuant
from paredown.models.compression.qdq import calibrated_nodes
from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import open_data
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.model import load_model
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.export import export_onnx
from paredown.models.onnx.run import run_onnx
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.stages.engines.own import OwnCalibration
from paredown.stages.measuring.answers import Answers
from paredown.stages.measuring.torch_parity import nudged
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.training.student import LoweredStudent, calibration_batches

HERE = Path(__file__).resolve().parent
FIRST = HERE / "subjects" / "mobilenetv2_tiny_imagenet.yaml"
BATCH = 8
"""Of the files; every layer is compared on the first one."""
HEAD = (
    "| network | int8 layers | same answer | file from torch | torch from itself | file as written from optimised "
    "| other integers, per million | most steps |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


class LayerByLayer(Interpreter):
    """Runs an imitation of int8 that goes on with a file's own integers (`name.q`) behind every rounding; `off` counts
    the values that it would have rounded otherwise, of all that it `compared`, and `steps` by how many at most."""

    def __init__(self, graph: GraphModule, values: Mapping[str, NDArray[np.generic]]) -> None:
        super().__init__(graph)
        self.values, self.off, self.compared, self.steps = values, 0, 0, 0

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        quant = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        name = f"{n.args[0].name}.q" if n.args and isinstance(n.args[0], Node) else ""
        if not isinstance(quant, ActivationQuant) or name not in self.values:
            return result
        theirs = torch.from_numpy(self.values[name].astype(np.float32)).reshape(result.shape)
        apart = (torch.round(result / quant.scale) + quant.zero - theirs).abs()
        self.off += int((apart > 0).sum())
        self.compared += apart.numel()
        self.steps = max(self.steps, int(apart.max()))
        return (theirs - quant.zero) * quant.scale


def row(name: str, module: nn.Module, data: ImageData, side: int, images: int) -> str:
    """The line of one network."""
    network = analyse_network(module, (3, side, side))
    model = export_onnx(network.module, network.shape, BATCH, network.graph)
    values = {node.name for node in network.graph.graph.nodes}
    known = set(calibrated_nodes(model, values))
    int8 = tuple(layer.name for layer in network.layers if layer.name in known)
    lowered = LoweredStudent(network, model, int8, OnnxRuntime().weight_bits())
    ranges = lowered.ranges(OwnCalibration(), calibration_batches(data))
    file, imitation = lowered.artifact(ranges), lowered.imitation(ranges)
    batches = [batch for batch, _ in data.batches(data.validation.take(images // BATCH * BATCH, 0), BATCH)]
    with torch.inference_mode():
        wanted = _answers([imitation(torch.from_numpy(batch)).numpy() for batch in batches])
        with nudged(imitation):
            again = _answers([imitation(torch.from_numpy(batch)).numpy() for batch in batches])
    written = _answers([run_onnx(file, batch)["logits"] for batch in batches])
    with TemporaryDirectory() as folder:
        save_onnx(file, Path(folder) / "model.onnx")
        optimised = _answers([OnnxRuntime().run(Path(folder) / "model.onnx", batches, threads=1)])
    layers = _layer_by_layer(imitation, file, batches[0])
    shares = (optimised.difference(wanted), again.difference(wanted), written.difference(optimised))
    cells = [name, f"{len(lowered.int8)}", f"{100 * optimised.agreement(wanted):.1f} %"]
    cells += [f"{100 * share:.2g} %" for share in shares]
    cells += [f"{1e6 * layers.off / max(1, layers.compared):.1f}", f"{layers.steps}"]
    return f"| {' | '.join(cells)} |"


def _answers(logits: Sequence[NDArray[Any]]) -> Answers:
    joined = np.concatenate(logits)
    return Answers(joined, np.zeros(len(joined), np.int64))


def _layer_by_layer(imitation: GraphModule, file: ModelProto, images: NDArray[np.float32]) -> LayerByLayer:
    names = [value for node in file.graph.node for value in node.output if value.endswith(".q")]
    layers = LayerByLayer(imitation, run_onnx(file, images, names))
    with torch.inference_mode():
        layers.run(torch.from_numpy(images))
    return layers


def networks(names: Sequence[str], classes: int) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of timm networks."""
    quiet_torchvision()
    import timm

    for name in names:
        torch.manual_seed(0)
        yield f"{name}, random weights", timm.create_model(name, num_classes=classes).eval()


@click.command()
@click.argument("subjects", nargs=-1)
@click.option("--out", "folder", default="runs/benchmarks", show_default=True, type=click.Path(path_type=Path))
@click.option("--images", default=128, show_default=True, help="Validation images.")
def main(subjects: tuple[str, ...], folder: Path, images: int) -> None:
    """Compare int8 files of SUBJECTS, recipes or timm networks, with torch (default: tiny-imagenet's recipe)."""
    logging.disable(logging.WARNING)
    named = [name for name in subjects if not name.endswith(".yaml")]
    recipes = [load_recipe(Path(name)) for name in subjects if name.endswith(".yaml")] or [load_recipe(FIRST)]
    click.echo(HEAD)
    for place, recipe in enumerate(recipes):
        data = open_data(recipe.data, recipe.root, folder / ".cache", recipe.seed)
        classes, side = len(data.classes), recipe.data.image_size
        module = load_model(recipe.model, classes, recipe.root, head="keep", side=side).eval()
        click.echo(row(recipe.name, module, data, side, images))
        for name, other in networks(named if place == 0 else (), classes):
            click.echo(row(name, other, data, side, images))


if __name__ == "__main__":
    main()
