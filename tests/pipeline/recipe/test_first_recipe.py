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


def test_a_library_model_gets_the_librarys_settings() -> None:
    write_recipe("timm/mixer_b16_224", "images", Path("timm.yaml"))
    data = load_recipe("timm.yaml").data
    assert (data.image_size, data.crop_mode, data.crop_pct, data.interpolation) == (224, "center", 0.875, "bicubic")
    assert data.mean == data.std == (0.5, 0.5, 0.5)
    assert "# As the library evaluates mixer_b16_224.goog_in21k_ft_in1k;" in Path("timm.yaml").read_text()
    write_recipe("torchvision/efficientnet_b1", "images", Path("torchvision.yaml"))
    data = load_recipe("torchvision.yaml").data
    assert (data.image_size, data.framing.scaled_side, data.interpolation) == (240, 255, "bilinear")


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="timm has no such image classifier; it has resnet18"):
        write_recipe("timm/resnet81", "images", Path("recipe.yaml"))
    assert not Path("recipe.yaml").exists()


def test_images_that_are_not_square_need_a_size() -> None:
    with pytest.raises(InputError, match="768 x 1024 pixels, and paredown's are square; name the side"):
        write_recipe("timm/vit_base_patch16_sapiens2", "images", Path("recipe.yaml"))


def test_a_library_without_weights_for_a_model_says_so() -> None:
    write_recipe("timm/resnetblur18", "images", Path("recipe.yaml"))
    assert load_recipe("recipe.yaml").model.weights is None
    assert "the library has none for this model" in Path("recipe.yaml").read_text()


def test_modules_are_no_paths() -> None:
    write_recipe("nets.mine:make", "images", Path("recipes/a.yaml"))
    assert load_recipe("recipes/a.yaml").model.source == "nets.mine:make"
