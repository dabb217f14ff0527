"""What counts in the keys of products, and in locks, of a model that code of the user's builds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paredown.pipeline.lock.recipe_inputs import file_digests
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.keys import ProductKeys

Write = Callable[..., Path]
NET = """
from pathlib import Path
from torch import nn
from parts import Scaled
from settings import width

def make(classes):
    kernel = int((Path(__file__).parent / "kernel.txt").read_text())
    layers = nn.Conv2d(3, width, kernel), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    return nn.Sequential(*layers, Scaled())
"""
PARTS = """
from torch import nn

class Scaled(nn.Module):
    def forward(self, x): return x * 2
"""


@pytest.fixture
def recipe(tmp_path: Path, write_recipe: Write, write_stage: Write) -> Path:
    for name, text in {
        "net.py": NET,
        "parts.py": PARTS,
        "settings.py": "width = 8",
        "kernel.txt": "3",
        "unused.py": "",
        "part_of_stage.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    labels = np.arange(24) % 3
    np.savez(tmp_path / "images.npz", images=np.zeros((24, 16, 16, 3), np.uint8), labels=labels)
    stage = write_stage("first", reads=("model",))
    stage.write_text(f"import part_of_stage\n{stage.read_text()}")
    file = write_recipe("- first.py")
    file.write_text(file.read_text().replace("source: images", "source: images.npz"))
    return file


def _key(file: Path) -> str:
    recipe = load_recipe(file)
    return ProductKeys(recipe).key_of(recipe.pipeline[0], {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("net.py", NET + "\n"),
        ("parts.py", PARTS.replace("* 2", "* 3")),
        ("settings.py", "width = 16"),
        ("kernel.txt", "5"),
        ("part_of_stage.py", "value = 1"),
    ],
)
def test_every_file_that_a_model_or_a_stage_is_made_from_counts(recipe: Path, name: str, text: str) -> None:
    before = _key(recipe)
    assert _key(recipe) == before
    kept = (recipe.parent / name).read_text()
    (recipe.parent / name).write_text(text)
    assert _key(recipe) != before
    (recipe.parent / name).write_text(kept)
    (recipe.parent / "unused.py").write_text("other")
    assert _key(recipe) == before


def test_a_lock_records_each_imported_file_and_only_those(recipe: Path) -> None:
    digests = file_digests(load_recipe(recipe))
    assert set(digests["files"]) == {"parts.py", "settings.py", "first.py", "part_of_stage.py", "runtime.py"}
    (recipe.parent / "net.py").write_text(PARTS)
    assert set(file_digests(load_recipe(recipe))["files"]) == {"first.py", "part_of_stage.py", "runtime.py"}


def test_weights_that_are_drawn_at_random_are_the_same_each_time(recipe: Path) -> None:
    drawn = NET.replace("    layers", "    import random\n    import numpy as np\n    layers")
    drawn = drawn.replace("    return", "    layers[3].bias.data.fill_(random.random() + np.random.rand())\n    return")
    (recipe.parent / "net.py").write_text(drawn)
    assert _key(recipe) == _key(recipe)
