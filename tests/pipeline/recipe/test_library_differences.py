"""A recipe that feeds a library's weights in another way than the library is told so, in one line."""

from pathlib import Path

import pytest

from paredown.pipeline.recipe.first_recipe import write_recipe
from paredown.pipeline.recipe.library_differences import library_differences
from paredown.pipeline.recipe.recipe import load_recipe


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(model: str, *changes: tuple[str, str], image_size: int | None = None) -> list[str]:
    file = Path("recipe.yaml")
    write_recipe(model, "images", file, image_size)
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return [*library_differences(load_recipe(file))]


@pytest.mark.parametrize("model", ["timm/resnet18", "timm/vit_tiny_patch16_224", "torchvision/efficientnet_v2_l"])
@pytest.mark.parametrize("image_size", [None, 96])
def test_what_init_writes_differs_in_nothing(model: str, image_size: int | None) -> None:
    assert lines(model, image_size=image_size) == []


def test_all_that_differs_is_in_one_line() -> None:
    changes = (("crop_pct: 0.95", "crop_pct: 1.0"), ("bicubic", "bilinear"), ("0.485, 0.456, 0.406", "0.5, 0.5, 0.5"))
    assert lines("timm/resnet18", *changes) == [
        "warning: resnet18.a1_in1k was made with crop_pct 0.95, interpolation bicubic, mean (0.485, 0.456, 0.406); "
        "the recipe's data has crop_pct 1.0, interpolation bilinear, mean (0.5, 0.5, 0.5)"
    ]


def test_rounding_is_no_difference_and_other_weights_are_nobodys_business() -> None:
    assert lines("timm/resnet18", ("0.485, 0.456, 0.406", "0.4850001, 0.456, 0.4065")) == []
    Path("recipe.yaml").unlink()
    assert lines("timm/resnet18", ("weights: hub", "weights: mine.pth"), ("bicubic", "bilinear")) == []
    Path("recipe.yaml").unlink()
    assert lines("net.py:make") == []
