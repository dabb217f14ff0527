"""The shape of one image, and the device that a module computes on."""

import torch
from torch import nn

Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; a module without any runs anywhere."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
