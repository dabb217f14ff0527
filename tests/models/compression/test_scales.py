"""Scales of int8: zero is exact, the range is kept, and all integers are used."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.models.compression.scales import activation_scale, range_of_scale, weight_scales

FINITE = st.floats(-1e4, 1e4, allow_nan=False)


@given(FINITE, FINITE)
def test_zero_is_exact_and_the_range_is_kept(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = activation_scale((low, high))
    assert 0 <= zero <= 255
    step = float(scale)
    assert step > 0
    for value in (low, high, 0.0):
        integer = np.clip(round(value / step) + zero, 0, 255)
        assert abs((integer - zero) * step - value) <= step * (1 + 1e-3)


@given(st.floats(2.0**-23, 1e4, width=32), st.integers(0, 255))
def test_a_scale_and_zero_point_come_back_exactly(scale: float, zero: int) -> None:
    assert activation_scale(range_of_scale(scale, zero)) == (np.float32(scale), zero)


@pytest.mark.parametrize("bits", [7, 8])
def test_weight_scales_use_all_integers_and_survive_dead_channels(bits: int) -> None:
    weight = np.array([[[[-3.0]], [[1.0]]], [[[0.0]], [[0.0]]]], np.float32)
    steps = weight_scales(weight, bits)
    assert steps.dtype == np.float32
    assert math.isclose(3.0 / steps[0], 2 ** (bits - 1) - 1, rel_tol=1e-6)
    assert steps[1] > 0
