"""How timm and torchvision themselves make images into the input of a model; nothing is downloaded."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from paredown.models.loading.libraries import find_library_model, in_one_line, quiet_torchvision

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class LibrarySettings:
    """With which settings a library evaluates the pretrained weights of a model, in the words of a recipe's `data`.

    `weights` names those weights, and is empty where the library has none for this model. `height` and `width` differ
    for very few models. A `crop_pct` over 1, with which timm frames images in black, is given as 1.
    """

    weights: str
    height: int
    width: int
    crop_mode: str
    crop_pct: float
    interpolation: str
    mean: Channels
    std: Channels

    def data_keys(self) -> dict[str, str | float | Channels]:
        """The keys of a recipe's `data` that say the same, without the size."""
        return {
            "crop_mode": self.crop_mode,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
        }


def library_settings(source: str) -> LibrarySettings:
    """The settings of `timm/<name>` or `torchvision/<name>`. Raises InputError where there is no such model."""
    quiet_torchvision()
    with in_one_line(source):
        find_library_model(source)
        library, _, name = source.partition("/")
        return _of_timm(name) if library == "timm" else _of_torchvision(name)


def _of_timm(name: str) -> LibrarySettings:
    import timm

    found: Any = timm.get_pretrained_cfg(name)
    _, height, width = found.input_size
    return LibrarySettings(
        weights=f"{found.architecture}.{found.tag}" if found.has_weights else "",
        height=height,
        width=width,
        crop_mode=found.crop_mode,
        crop_pct=min(1.0, found.crop_pct),
        interpolation=found.interpolation,
        mean=tuple(found.mean),
        std=tuple(found.std),
    )


def _of_torchvision(name: str) -> LibrarySettings:
    models: Any = import_module("torchvision.models")
    best = models.get_model_weights(name).DEFAULT
    preset = best.transforms()
    (side,), (scaled,) = preset.crop_size, preset.resize_size
    return LibrarySettings(
        weights=f"{name}, {best.name}",
        height=side,
        width=side,
        crop_mode="center",
        crop_pct=short_crop_pct(side, scaled),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def short_crop_pct(side: int, scaled: int) -> float:
    """The number of fewest digits, from three on, with which `side` comes from an image that is scaled to `scaled`."""
    exact = side / scaled
    rounded = (math.floor(exact * 10**digits) / 10**digits for digits in range(3, 10))
    return next((one for one in rounded if math.floor(side / one) == scaled), exact)
