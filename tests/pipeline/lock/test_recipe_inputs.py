"""What a recipe asks for, as a lock records it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.pipeline.lock.environment import package_versions
from paredown.pipeline.lock.recipe_inputs import recipe_record
from paredown.pipeline.recipe.recipe import load_recipe

Write = Callable[..., Path]


@pytest.fixture
def recipe(write_recipe: Write) -> Callable[..., Path]:
    def written(epochs: int = 3, **parts: str) -> Path:
        chain = (
            f"- baseline\n- profile\n- sensitivity\n- search\n- compress\n- recover: {{distil: {{epochs: {epochs}}}}}"
        )
        return write_recipe(chain, **parts)

    return written


def test_only_what_is_not_so_anyway_is_recorded(recipe: Callable[..., Path]) -> None:
    record = recipe_record(load_recipe(recipe(limits="{size: 0.50x, accuracy_drop: 0}")))
    assert record.options == {
        "model": {"source": "net.py:make"},
        "data": {"source": "images", "image_size": 32},
        "target": {"runtime": "runtime.py"},
        "limits": {"size": "0.5x", "accuracy_drop": 0.0},
        "pipeline": {"recover": {"distil": {"epochs": 3}}},
    }
    assert record.stages == ("baseline", "profile", "sensitivity", "search", "compress", "recover")


@pytest.mark.parametrize("epochs", [4, 8])
def test_defaults_within_defaults_are_distinguished(recipe: Callable[..., Path], epochs: int) -> None:
    """4 epochs are the default of every phase, 8 that of this one."""
    stages = recipe_record(load_recipe(recipe(epochs))).options["pipeline"]
    assert stages == ({"recover": {"distil": {}}} if epochs == 4 else {})


def test_packages_are_all_that_paredown_needs(recipe: Callable[..., Path]) -> None:
    versions = package_versions(load_recipe(recipe()))
    assert {"python", "torch", "pillow", "onnxscript", "scipy"} <= set(versions)
    assert "pytest" not in versions


def test_an_interpreter_of_its_own_is_listed_package_by_package(
    recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = {"requirements": ["engine"], "packages": ["engine==1.2", "numpy==1.19"]}
    monkeypatch.setattr("paredown.pipeline.run.keys.ProductKeys.installed", lambda self, kind, names: {"sparse": stamp})
    versions = package_versions(load_recipe(recipe()))
    assert (versions["sparse/engine"], versions["sparse/numpy"]) == ("1.2", "1.19")
