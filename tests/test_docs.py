"""The examples of the documentation work as they stand there."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from paredown.models.errors import LimitError
from paredown.models.network.blocks import Place
from paredown.models.network.trace import analyse_network
from paredown.pipeline.gate.budgets import read_gates
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline
from paredown.stages import plugins
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.blocks.base import check_user_blocks, replacements_for
from paredown.stages.runtimes.base import Load
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.solvers.base import is_far
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import (
    Candidate,
    CostFactor,
    Problem,
    Site,
    holds_limits,
    is_plan,
    plan_cost,
    plan_loss,
    with_limits,
)

ROOT = Path(__file__).parents[1]
GIVEN = '''
"""Copies a finished artifact."""

import shutil
from typing import ClassVar

from paredown.stages.base import Stage


class Given(Stage):
    gives: ClassVar[str] = "artifact"

    def run(self, state):
        shutil.copy(state.root / "model.onnx", state.out / "model.onnx")


PLUGIN = Given
'''


def example(heading: str) -> str:
    """The one Python block of a section of docs/extending.md."""
    section = (ROOT / "docs" / "extending.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(block)


def plugin(kind: plugins.Kind, heading: str, folder: Path) -> Any:
    (folder / "example.py").write_text(example(heading))
    return plugins.load_plugin(kind, "example.py", folder)


def brightness(path: Path) -> Path:
    """A classifier of 2x3x8x8 images by their mean: class 1 where it is above 0."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0] = 1 / 3
    constants = {"w": weight, "s": np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], "conv", kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["conv"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "s"], ["logits"], "head", transB=1),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 2])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [images], [logits], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def chain(latency: float) -> Problem:
    """Six layers in fp32 or int8 with costly borders; the fourth may be replaced, and then has no precision."""
    bits = (Candidate("fp32", 0.0, {"latency": 2.0}), Candidate("int8", 0.1, {"latency": 1.0}))
    block = Site("block", (Candidate("keep"), Candidate("swap", 0.4, {"latency": 0.5})))
    layers = [Site(f"q{i}", bits, ("block", "keep") if i == 3 else None) for i in range(6)]
    table: dict[tuple[str, ...], dict[str, float]] = {
        ("fp32", "int8"): {"latency": 0.3},
        ("int8", "fp32"): {"latency": 0.3},
    }
    borders = tuple(CostFactor((f"q{i}", f"q{i + 1}"), table) for i in range(5))
    return with_limits(Problem((*layers, block), borders), {"latency": latency})


@pytest.mark.parametrize("latency", [13.0, 10.0, 7.0, 6.0])
def test_the_solver_finds_plans_that_hold(latency: float, tmp_path: Path) -> None:
    problem, solver = chain(latency), plugin("solvers", "A solver", tmp_path)()
    found = solver.solve(problem)
    assert found.feasible and holds_limits(problem, found.choice) and is_plan(problem, found.choice)
    assert found.loss == pytest.approx(plan_loss(problem, found.choice))
    assert found.costs == pytest.approx(plan_cost(problem, found.choice))
    assert found.loss >= Milp().solve(problem).loss - 1e-9


def test_the_solver_avoids_plans_and_says_what_it_cannot(tmp_path: Path) -> None:
    solver = plugin("solvers", "A solver", tmp_path)()
    first = solver.solve(chain(9.0)).choice
    second = solver.solve(chain(9.0), (first,), 0.4)
    assert second.feasible and is_far(second.choice, (first,), 0.4)
    assert not solver.solve(chain(1.0)).feasible


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that ends with the example stage: dark and bright images, of which one bright one is dark."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 50, (40, 8, 8, 3), dtype=np.uint8)
    images[20:] += 180
    images[20] = rng.integers(0, 50, (8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.repeat([0, 1], 20), classes=["dark", "bright"])
    brightness(tmp_path / "model.onnx")
    (tmp_path / "given.py").write_text(GIVEN)
    (tmp_path / "recall.py").write_text(example("A stage"))
    splits = {"train": 0.1, "calibration": 0.1, "validation": 0.1, "test": 0.7}
    page = {
        "model": {"source": "net.py:make"},
        "data": {"source": "images.npz", "image_size": 8, "splits": splits},
        "target": {"batch": 2},
        "limits": {"size": "1x"},
        "pipeline": ["given.py", {"recall.py": {"floor": 50}}],
    }
    (tmp_path / "net.py").write_text("def make():\n    raise AssertionError('no stage reads the model')\n")
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(page, sort_keys=False))
    return file


def test_the_stage_measures_every_class(recipe: Path, tmp_path: Path) -> None:
    state = run_pipeline(load_recipe(recipe), tmp_path / "runs")
    recall = json.loads((state.product("recall") / "recall.json").read_text())
    assert recall["dark"] == 100
    assert 85 < recall["bright"] <= 100


def test_the_stage_refuses_and_keeps_its_product(recipe: Path, tmp_path: Path) -> None:
    model = onnx.load(tmp_path / "model.onnx")
    scale = next(item for item in model.graph.initializer if item.name == "s")
    scale.CopyFrom(numpy_helper.from_array(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32), "s"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(LimitError, match=r"recall of class '.*' is .* under the floor of 50 %"):
        run_pipeline(load_recipe(recipe), tmp_path / "runs")
    assert (tmp_path / "runs" / "demo" / "recall" / "recall.json").exists()


def test_the_transform_offers_wide_layers_only(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 3), nn.Flatten(), nn.Linear(512, 2))
    network = analyse_network(module.eval(), (3, 8, 8))
    prepared = PreparedModel(network, onnx.ModelProto(), (), {}, {}, 8, 8)
    transform = plugin("transforms", "A transform", tmp_path)(channels=64)
    names = [site.name for site in transform.sites(prepared)]
    assert names == ["quantize:2", "quantize:4"]
    assert transform.uniform(prepared) == (dict.fromkeys(names, "int8"),)
    stem, middle = network.layer("0"), network.layer("2")
    assert transform.touching(prepared, stem) == ()
    assert transform.form(prepared, middle, LayerForm(64, 32), {"quantize:2": "int8"}).bits == 8
    assert transform.form(prepared, stem, LayerForm(3, 64), {"quantize:2": "int8"}).bits == 32
    assert transform.apply(prepared, {}, module) is module
    assert torch.equal(network.graph(torch.ones(1, 3, 8, 8)), module(torch.ones(1, 3, 8, 8)))


def test_the_block_stands_in_for_a_block(tmp_path: Path) -> None:
    (tmp_path / "thin.py").write_text(example("A block"))
    same = Place("a", (16, 12, 12), (16, 12, 12), "relu", True)
    entry = Place("b", (16, 13, 13), (32, 7, 7), "silu", False)
    check_user_blocks([same, entry], {"thin.py": {"ratios": [0.25, 0.5]}}, tmp_path)
    for place in (same, entry):
        assert list(replacements_for(place, {"thin.py": {}}, tmp_path)) == ["thin_r50"]


def test_the_runtime_agrees_with_onnxruntime(tmp_path: Path) -> None:
    runtime, model = plugin("runtimes", "A runtime", tmp_path)(), brightness(tmp_path / "model.onnx")
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    got = runtime.run(model, [images], 1)
    np.testing.assert_allclose(got, OnnxRuntime().run(model, [images], 1), atol=1e-5)
    times = runtime.latency([model, model], Load(1, 2), rounds=2, runs=3)
    assert np.shape(times) == (2, 2, 3) and np.min(times) > 0
    assert set(runtime.node_times(model, Load(1, 2), runs=2)) == {"conv", "mean", "flat", "head"}
    assert 5 < runtime.peak_memory(model, Load(1, 2)) < 2000


def test_the_engine_keeps_everything_that_it_sees(tmp_path: Path) -> None:
    network = analyse_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval(), (3, 8, 8))
    images = list(torch.randn(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    engine = plugin("engines", "An engine", tmp_path)()
    whole = torch.stack(images)
    assert engine.tune(network, images, lambda count: ()).refused == ()
    assert engine.ranges(network, images, ["x"], ()) == {"x": (float(whole.min()), float(whole.max()))}


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text())]
    broken = [f"{page.name}: {link}" for page, link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_the_recipe_and_the_budgets_in_the_readme_are_valid(tmp_path: Path) -> None:
    recipe, budgets = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "gates.yaml").write_text(budgets)
    assert load_recipe(tmp_path / "recipe.yaml").pipeline
    assert read_gates(tmp_path / "gates.yaml").baseline == "baseline.onnx"


def test_the_budgets_of_examples_are_valid() -> None:
    for file in (ROOT / "docs" / "ci" / "gates.yaml", ROOT / "recipes" / "quickstart.gates.yaml"):
        assert read_gates(file).budgets.relative


def test_the_map_shows_every_wing_and_nothing_that_is_not_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"\b(?:pipeline|stages|models|tests|typings)/[\w/.]*\w", text))
    assert len(named) > 60
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    folders = {
        file.parent.relative_to(ROOT) for top in ("pipeline", "stages", "models") for file in (ROOT / top).rglob("*.py")
    }
    assert [str(folder) for folder in sorted(folders) if f"`{folder}" not in text and f"{folder}/" not in text] == []
