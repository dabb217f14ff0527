"""What a plan makes of layers, and what it is predicted to take: bytes, live memory, time."""

import json

import numpy as np
import pytest

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.planning import latency_model
from paredown.stages.planning.latency_model import TERMS
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())


def profile_of(prepared: PreparedModel, weights: tuple[float, ...] = (1.0,) * len(TERMS)) -> CostProfile:
    """A ms per million multiply-adds, int8 at 0.4 of it."""
    kernels = {"fp32": (1.0, 0.0, 0.0, 0.001), "int8": (0.4, 0.0, 0.0, 0.001)}
    fits = {layer.name: kernels for layer in prepared.network.layers}
    return CostProfile(fits, 1.0, weights, 0.01, 40.0, 2.0)


def test_sizes_and_activations_shrink_with_width_and_precision(prepared: PreparedModel) -> None:
    plain = PlanSpace(prepared, BOTH).size_mib({})
    narrow = PlanSpace(prepared, BOTH).size_mib({"narrow:block.conv1": "16"})
    int8 = PlanSpace(prepared, BOTH).size_mib({"quantize:block.conv1": "int8"})
    # 16 channels less: their weights in conv1 and conv2, and their biases in conv1.
    assert (plain - narrow) * 2**20 == pytest.approx(4 * (16 * 16 * 9 * 2 + 16))
    assert (plain - int8) * 2**20 == pytest.approx(3 * 16 * 32 * 9 + 4 * 32 - 17 * 32)


def test_what_is_alive_at_each_step(prepared: PreparedModel) -> None:
    live = PlanSpace(prepared, BOTH).live_mib({})
    order = [layer.name for layer in prepared.network.layers]
    stem, inner = 16 * 144 * 4 / 2**20, 32 * 144 * 4 / 2**20
    assert live[order.index("stem.0")] == pytest.approx(stem)
    # The shortcut stays alive until the addition has read it.
    assert live[order.index("block.conv1")] == pytest.approx(stem + inner)
    assert live[order.index("block.conv2")] == pytest.approx(stem + inner + stem)
    assert live[order.index("add")] == pytest.approx(3 * stem)
    halved = PlanSpace(prepared, BOTH).live_mib({"quantize:block.conv1": "int8"})
    assert halved[order.index("block.conv1")] == pytest.approx(stem + inner / 4)


def test_terms_of_a_plan(prepared: PreparedModel) -> None:
    profile = profile_of(prepared)
    plain = dict(zip(TERMS, PlanSpace(prepared, BOTH).latency_terms(profile, {}), strict=True))
    assert plain["dense int8"] == plain["depthwise int8"] == plain["borders"] == plain["border elements"] == 0
    assert plain["depthwise fp32"] == pytest.approx(9 * 16 * 36 / 1e6 + 0.001)
    changed = PlanSpace(prepared, BOTH).latency_terms(profile, {"quantize:depthwise": "int8"})
    mixed = dict(zip(TERMS, changed, strict=True))
    assert mixed["depthwise fp32"] == 0
    assert mixed["depthwise int8"] == pytest.approx(0.4 * 9 * 16 * 36 / 1e6 + 0.001)
    assert mixed["borders"] == pytest.approx(2 * latency_model.BORDER_MS)


def test_a_prediction_is_the_weighted_sum_of_its_terms(prepared: PreparedModel) -> None:
    weights = tuple(float(value) for value in range(1, len(TERMS) + 1))
    profile, choice = profile_of(prepared, weights), {"quantize:add": "int8", "narrow:block.conv1": "8"}
    terms = PlanSpace(prepared, BOTH).latency_terms(profile, choice)
    found = PlanSpace(prepared, BOTH).predict(profile, choice)
    assert found["latency"] == pytest.approx(float(terms @ np.array(weights)))
    assert found["size"] == pytest.approx(PlanSpace(prepared, BOTH).size_mib(choice) + 0.01)
    live = max(PlanSpace(prepared, BOTH).live_mib(choice).values())
    assert found["memory"] == pytest.approx(40 + 2 * PlanSpace(prepared, BOTH).size_mib(choice) + live)


def test_variants_are_all_combinations_of_uniform_choices(planned: State) -> None:
    space = load_plan_space(planned)
    variants = space.variants()
    assert variants[0] == {}
    expected = 1
    for transform in space.transforms:
        expected *= 1 + len(transform.uniform(space.prepared))
    assert len({json.dumps(choice, sort_keys=True) for choice in variants}) == len(variants) == expected
    assert all(set(choice) <= {s.name for s in space.sites} for choice in variants)


def test_variants_that_come_to_the_same_are_one(prepared: PreparedModel) -> None:
    """With one level, three quarters, a half and a quarter of the channels are all the nearest of two widths."""
    narrow = Narrow(levels=(0.5,), round_to=8)
    variants = PlanSpace(prepared, (narrow,)).variants()
    assert len(narrow.uniform(prepared)) == 3 and len(variants) == 2 and variants[0] == {}
    assert {site.candidates[-1].name for site in narrow.sites(prepared)} == set(variants[1].values())
