"""Whole runs of networks that return something else than one tensor of logits, and of broken ones."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import paredown
from paredown.models.errors import InputError

WRAPPED = """

class Wrapped(Net):
    def forward(self, x):
        x = self.block(self.stem(x))
        x = self.pointwise(torch.relu(self.bn(self.depthwise(x))))
        features = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        logits = self.fc(features)
        return {returned}


def net(classes):
    return Wrapped(classes)
"""


def folder_with(tools: Any, folder: Path, returned: str) -> Path:
    """A network that returns an expression of `logits` and `features`, and images."""
    (folder / "net.py").write_text(tools.net_source + WRAPPED.replace("{returned}", returned))
    (folder / "exact.py").write_text(tools.runtime_source)
    images, labels = tools.coloured_shapes(96, 24)
    np.savez(folder / "images.npz", images=images, labels=labels)
    return folder


def recipe_in(tools: Any, folder: Path, output: str = "", **options: str) -> Path:
    model = f'"net.py:net"{f", output: {output}" if output else ""}'
    text = tools.recipe_text("latency_p50: 0.9x, accuracy_drop: 100", model=model, **options)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        ('{"features": features, "scores": logits}', "scores"),
        ("(logits, features) if self.training else logits[:, :, None, None]", "0"),
    ],
)
def test_the_main_output_is_pared_down(tools: Any, tmp_path: Path, returned: str, output: str) -> None:
    recipe = recipe_in(tools, folder_with(tools, tmp_path, returned), output)
    paredown.check(recipe, out=tmp_path / "runs")
    paredown.run(recipe, out=tmp_path / "runs")
    artifact = tmp_path / "runs" / "recipe" / "artifact"
    model = onnx.load(artifact / "model.onnx")
    assert [one.name for one in model.graph.output] == ["logits"]
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    assert [one.dim_value for one in sizes] == [1, 3]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("features.sum() * logits / 0 - logits / 0", "8 of the first 8 validation images: logits are not finite"),
        ("{'a': logits, 'b': features}", "the key `output` of `model` must say which one are the logits"),
        ("(logits + 1, features) if self.training else logits", "none of them is what it answers in evaluation"),
        ("logits.softmax(1).argmax(1)", r"the model answers with int64 \(2,\) for 2 images"),
        ("torch.cat([logits, logits], 1)", r"\(2, 6\) for 2 images; the data has 3 classes"),
    ],
)
def test_what_is_no_answer_is_refused_before_any_work(tools: Any, tmp_path: Path, returned: str, said: str) -> None:
    recipe = recipe_in(tools, folder_with(tools, tmp_path, returned))
    with pytest.raises(InputError, match=said):
        paredown.check(recipe, out=tmp_path / "runs")


def test_an_original_that_is_not_finite_ends_a_run(tools: Any, tmp_path: Path) -> None:
    recipe = recipe_in(tools, folder_with(tools, tmp_path, "logits / (logits - logits)"))
    recipe.write_text(recipe.read_text().replace("  - fit: {epochs: 1, batch: 16}\n", ""))
    with pytest.raises(InputError, match=r"cannot be scored: (\d+) of \1 validation images: logits are not finite"):
        paredown.run(recipe, out=tmp_path / "runs")
