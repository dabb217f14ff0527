"""Scales of int8: unsigned with a zero point for activations, signed and symmetric for weights."""

import numpy as np
from numpy.typing import NDArray

LEAST_STEP = np.float32(2**-12)
"""Of the layer's largest step: a channel without weights still needs one that its bias fits into."""

Range = tuple[float, float]
"""The lowest and highest value that an activation is meant to keep."""


def activation_scale(bounds: Range) -> tuple[np.float32, int]:
    """Scale and zero point of unsigned 8 bit over a range, which is widened to hold zero exactly."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return scale, int(np.clip(round(-low / float(scale)), 0, 255))


def range_of_scale(scale: float, zero: int) -> Range:
    """The range whose `activation_scale` is exactly this float32 scale and zero point."""
    return -zero * float(scale), (255 - zero) * float(scale)


def weight_scales(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Per output channel, for symmetric signed integers of `bits` bits; weight is (out, ...)."""
    peak = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    steps = peak / np.float32(2 ** (bits - 1) - 1)
    return np.asarray(np.maximum(steps, np.maximum(steps.max() * LEAST_STEP, np.float32(1e-8))), np.float32)
