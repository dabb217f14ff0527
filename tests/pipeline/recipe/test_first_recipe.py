"""The first recipe that `paredown init` writes."""

from pathlib import Path

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.recipe.first_recipe import write_recipe
from paredown.pipeline.recipe.recipe import load_recipe


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_library_model_is_fitted_to_the_data() -> None:
    write_recipe("timm/resnet18", "images", Path("recipe.yaml"), image_size=96)
    recipe = load_recipe("recipe.yaml")
    assert (recipe.name, recipe.model.source, recipe.model.weights) == ("recipe", "timm/resnet18", "hub")
    assert (recipe.data.source, recipe.data.image_size) == ("images", 96)
    assert recipe.pipeline[0].name == "fit"
    assert "# Hard limits" in Path("recipe.yaml").read_text()


def test_paths_start_from_the_recipe(tmp_path: Path) -> None:
    write_recipe("nets/mine.py:make", f"{tmp_path}/images", Path("recipes/a.yaml"))
    recipe = load_recipe("recipes/a.yaml")
    assert recipe.model.source == "../nets/mine.py:make"
    assert recipe.model.weights is None
    assert recipe.data.source == f"{tmp_path}/images"
    assert recipe.pipeline[0].name == "baseline"


@pytest.mark.parametrize("data", ["123", "with: colon", "true", "# odd", "package:elpv_dataset", "ünïcode dir"])
def test_odd_names_of_data(data: str) -> None:
    write_recipe("timm/resnet18", data, Path("recipe.yaml"))
    assert load_recipe("recipe.yaml").data.source == data


def test_nothing_is_overwritten() -> None:
    Path("recipe.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"recipe\.yaml exists already"):
        write_recipe("timm/resnet18", "images", Path("recipe.yaml"))
    assert Path("recipe.yaml").read_text() == "mine"


def test_an_invalid_recipe_is_not_left_behind() -> None:
    with pytest.raises(InputError, match=r"data\.image_size should be"):
        write_recipe("timm/resnet18", "images", Path("recipe.yaml"), image_size=1)
    assert not Path("recipe.yaml").exists()
