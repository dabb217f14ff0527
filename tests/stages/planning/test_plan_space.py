"""What a plan makes of layers, and what it is predicted to take: bytes, live memory, time."""

import json
from dataclasses import replace
from typing import Any

import pytest

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())


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


def test_size_and_memory_of_a_plan(prepared: PreparedModel, tools: Any) -> None:
    profile, choice = tools.random_profile(prepared), {"quantize:add": "int8", "narrow:block.conv1": "8"}
    space = PlanSpace(prepared, BOTH)
    found, live = space.predict(profile, choice), max(space.live_mib(choice).values())
    assert found["size"] == pytest.approx(space.size_mib(choice) + profile.size_offset)
    expected = profile.memory_floor + profile.memory_per_size * space.size_mib(choice) + live
    assert found["memory"] == pytest.approx(expected)


def test_a_profiles_model_is_fitted_once(prepared: PreparedModel, tools: Any) -> None:
    space, profile = PlanSpace(prepared, BOTH), tools.random_profile(prepared)
    assert space.latency_model(profile) is space.latency_model(profile)
    assert space.latency_model(replace(profile)) is not space.latency_model(profile)


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


def test_plans_that_come_to_the_same_are_measured_once(prepared: PreparedModel) -> None:
    """A network with one site has no runs of two sites to alternate."""
    space = PlanSpace(prepared, (Quantize(),))
    one = {"quantize:fc": "int8"}
    assert space.distinct([{}, one, {"quantize:fc": "fp32"}, {**one, "quantize:add": "fp32"}]) == [{}, one]
