"""The cost model: what a plan is predicted to cost, and how measured plans correct it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.models.compression.sparsity import Sparsity
from paredown.models.network.layers import Layer
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.planning import footprint, latency_model
from paredown.stages.planning.latency_model import TERMS
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())
CONV = Layer("c", "conv", ("x",), "v", "v", 16, 32, 9, 1, 100, 25)
DEPTHWISE = Layer("d", "conv", ("x",), "v", "v", 16, 16, 9, 16, 100, 100)


def profile_of(prepared: PreparedModel, weights: tuple[float, ...] = (1.0,) * len(TERMS)) -> CostProfile:
    """A ms per million multiply-adds, int8 at 0.4 of it."""
    kernels = {"fp32": (1.0, 0.0, 0.0, 0.001), "int8": (0.4, 0.0, 0.0, 0.001)}
    fits = {layer.name: kernels for layer in prepared.network.layers}
    return CostProfile(fits, 1.0, weights, 0.01, 40.0, 2.0)


def test_features_are_macs_and_elements_in_millions() -> None:
    assert latency_model.layer_features(CONV, LayerForm(16, 32)).tolist() == [
        25 * 9 * 16 * 32 / 1e6,
        1600 / 1e6,
        800 / 1e6,
        1,
    ]
    smaller = LayerForm(16, 32, pixels=(64, 16))
    assert latency_model.layer_features(CONV, smaller).tolist() == [
        16 * 9 * 16 * 32 / 1e6,
        64 * 16 / 1e6,
        16 * 32 / 1e6,
        1,
    ]
    assert latency_model.layer_features(DEPTHWISE, LayerForm(8, 8)).tolist() == [
        100 * 9 * 8 / 1e6,
        800 / 1e6,
        800 / 1e6,
        1,
    ]


@given(st.tuples(*[st.floats(0.01, 10)] * 4))
def test_a_layers_time_is_found_again(truth: tuple[float, ...]) -> None:
    forms = [LayerForm(a, b) for a in (4, 8, 16) for b in (8, 16, 32)]
    pairs = [(form, float(latency_model.layer_features(CONV, form) @ np.array(truth))) for form in forms]
    fitted = np.array(latency_model.fit_layer_kernel(CONV, pairs))
    assert all(
        float(latency_model.layer_features(CONV, form) @ fitted) == pytest.approx(ms, rel=1e-3) for form, ms in pairs
    )


def test_a_sparse_kernel_is_so_many_times_as_fast_as_the_dense_one_at_every_width() -> None:
    whole, half = LayerForm(16, 32), LayerForm(16, 16)
    sparse = replace(whole, sparsity=Sparsity("block4", 0.8))
    fitted = latency_model.fit_kernels(CONV, [(sparse, 0.3), (whole, 1.0), (half, 0.6)])
    assert set(fitted) == {"fp32", "fp32 block4@0.8"}
    dense, fast = (np.array(fitted[kernel]) for kernel in ("fp32", "fp32 block4@0.8"))
    assert float(latency_model.layer_features(CONV, whole) @ fast) == pytest.approx(0.3, rel=0.01)
    assert float(latency_model.layer_features(CONV, half) @ fast) == pytest.approx(
        0.3 * float(latency_model.layer_features(CONV, half) @ dense)
    )


def test_a_sparse_layer_takes_as_long_as_a_dense_one_where_it_has_no_kernel(prepared: PreparedModel) -> None:
    layer, sparse = prepared.network.layer("block.conv1"), LayerForm(16, 32, sparsity=Sparsity("block4", 0.8))
    profile = profile_of(prepared)
    assert latency_model.corrected_ms(profile, layer, sparse) == latency_model.corrected_ms(
        profile, layer, LayerForm(16, 32)
    )
    named = {**profile.layers, layer.name: {**profile.layers[layer.name], sparse.kernel: (0.2, 0.0, 0.0, 0.0)}}
    fast = replace(profile, layers=named, weights=tuple(float(name == "sparse fp32") for name in TERMS))
    assert latency_model.corrected_ms(fast, layer, sparse) == pytest.approx(
        0.2 * latency_model.layer_features(layer, sparse)[0]
    )


def test_a_fit_never_goes_below_zero() -> None:
    falling = [(LayerForm(4, 8), 3.0), (LayerForm(16, 32), 1.0)]
    assert all(value >= 0 for value in latency_model.fit_layer_kernel(CONV, falling))
    assert all(np.isfinite(latency_model.fit_layer_kernel(CONV, [(LayerForm(16, 32), 0.0)])))


def test_bytes_of_weights() -> None:
    assert footprint.weight_bytes(CONV, LayerForm(16, 32)) == 4 * (16 * 32 * 9 + 32)
    assert footprint.weight_bytes(CONV, LayerForm(8, 16, 8)) == 8 * 16 * 9 + 17 * 16
    assert footprint.weight_bytes(DEPTHWISE, LayerForm(8, 8)) == 4 * (8 * 9 + 8)


def test_only_a_change_of_precision_is_a_border(prepared: PreparedModel) -> None:
    layer = prepared.network.layer("block.conv2")
    assert latency_model.border_terms(layer, LayerForm(16, 32), LayerForm(32, 16)) == (0.0, 0.0)
    assert latency_model.border_terms(layer, LayerForm(16, 24, 8), LayerForm(24, 16)) == (24 * 144 / 1e6, 1.0)
    assert latency_model.border_terms(layer, LayerForm(16, 24, 8), LayerForm(24, 16, 32, (64, 64))) == (
        24 * 64 / 1e6,
        1.0,
    )


def test_correct_weights_stay_and_wrong_ones_are_found() -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(0.1, 2, (40, len(TERMS)))
    truth = np.ones(len(TERMS))
    truth[2], truth[6] = 1.4, 0.7
    ones = np.ones(len(rows))
    assert latency_model.fit_weights(rows, rows.sum(axis=1), ones) == pytest.approx([1.0] * len(TERMS), abs=1e-6)
    fitted = np.array(latency_model.fit_weights(rows, rows @ truth, ones))
    assert np.abs(rows @ fitted / (rows @ truth) - 1).max() < 0.05
    assert fitted[2] > 1.2


def test_important_plans_pull_harder() -> None:
    rows = np.ones((2, len(TERMS)))
    measured = np.array([8.0, 12.0])
    equal = sum(latency_model.fit_weights(rows, measured, np.ones(2)))
    pulled = sum(latency_model.fit_weights(rows, measured, np.array([1.0, 10.0])))
    assert 8 < equal < pulled < 12


def test_weights_are_never_negative() -> None:
    rows: Any = np.eye(len(TERMS)) + 0.01
    assert min(latency_model.fit_weights(rows, np.full(len(TERMS), 1e-3), np.full(len(TERMS), 100.0))) >= 0
