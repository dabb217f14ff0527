"""The settings are those with which timm and torchvision evaluate their own weights; both are asked for them."""

from importlib import import_module
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.library_settings import library_settings, short_crop_pct


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet18.tv_in1k", "mobilenetv3_small_100", "repvgg_a0", "vit_tiny_patch16_224", "mixer_b16_224"],
)
def test_timm(name: str) -> None:
    quiet_torchvision()
    import timm
    from timm.data import resolve_model_data_config

    settings = library_settings(f"timm/{name}")
    theirs = resolve_model_data_config(timm.create_model(name, pretrained=False))
    assert settings.data_keys() == {key: theirs[key] for key in settings.data_keys()}
    assert (3, settings.height, settings.width) == theirs["input_size"]
    assert settings.weights.startswith(f"{name.partition('.')[0]}.")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b1", "efficientnet_v2_l", "inception_v3"])
def test_torchvision(name: str) -> None:
    quiet_torchvision()
    models: Any = import_module("torchvision.models")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    settings = library_settings(f"torchvision/{name}")
    assert [settings.height] == [settings.width] == preset.crop_size
    assert [int(settings.height / settings.crop_pct)] == preset.resize_size
    assert (settings.crop_mode, settings.interpolation) == ("center", preset.interpolation.value)
    assert (list(settings.mean), list(settings.std)) == (preset.mean, preset.std)


@pytest.mark.parametrize(("side", "scaled", "short"), [(224, 256, 0.875), (224, 232, 0.965), (518, 518, 1.0)])
def test_a_crop_pct_of_few_digits(side: int, scaled: int, short: float) -> None:
    assert short_crop_pct(side, scaled) == short
    for other in range(240, 500):
        assert int(240 / short_crop_pct(240, other)) == other


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("timm/resnet81", "timm has no such image classifier; it has resnet18"),
        ("timm/resnet18.a1_in2k", r"timm has no such image classifier; it has resnet18\.a1_in1k"),
        ("torchvision/mobilenet_v4", "torchvision has no such image classifier; it has mobilenet_v2"),
    ],
)
def test_models_that_do_not_exist(source: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        library_settings(source)


def test_models_without_weights_say_so() -> None:
    assert library_settings("timm/resnet10t").weights
    assert not library_settings("timm/resnetblur18").weights
