"""Sites that are decided before the search: by the recipe, or because an engine refuses a layer."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.models.errors import InputError
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.engines.base import TunedQuantization
from paredown.stages.limits import Bound, Limits
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space, load_profile
from paredown.stages.planning.search_loop import SearchLoop
from paredown.stages.planning.sites import random_choice
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.search import Search
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import is_plan, plan_cost, validate_problem
from paredown.stages.transforms.layer_patterns import matched_layers
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

NAMES = ("stem.0", "block.conv1", "block.conv2", "add", "fc")


def test_the_first_key_that_fits_the_whole_name_counts() -> None:
    said = {r"block\.conv2": "int8", "block.*": "fp32", "fc": "int8"}
    assert matched_layers(NAMES, said, "layers") == {"block.conv2": "int8", "block.conv1": "fp32", "fc": "int8"}
    assert matched_layers(["a+b", "aab"], {"a+b": 1}, "layers") == {"a+b": 1, "aab": 1}


@pytest.mark.parametrize("key", ["blok.conv1", "conv1", "block"])
def test_a_key_that_fits_no_layer_is_refused_with_what_is_near(key: str) -> None:
    with pytest.raises(InputError, match=rf"quantize.layers: '{key}' fits none of the 5 layers; near: .*block.conv1"):
        matched_layers(NAMES, {"fc": "int8", key: "int8"}, "quantize.layers")


def test_a_key_that_is_no_expression_is_refused() -> None:
    with pytest.raises(InputError, match=r"layers: '\(' is no name and no regular expression"):
        matched_layers(NAMES, {"(": "int8"}, "layers")


def candidates(prepared: PreparedModel, quantize: Quantize) -> dict[str, list[str]]:
    return {
        site.name: [c.name for c in site.candidates] for site in PlanSpace(prepared, (Narrow(), quantize)).open_sites
    }


def test_a_pinned_layer_has_one_candidate_and_the_others_keep_theirs(prepared: PreparedModel) -> None:
    found = candidates(prepared, Quantize(layers={"fc": "fp32", "block.*": "int8"}))
    free = candidates(prepared, Quantize())
    assert found["quantize:fc"] == ["fp32"]
    assert found["quantize:block.conv1"] == found["quantize:block.conv2"] == ["int8"]
    rest = found.keys() - {"quantize:fc", "quantize:block.conv1", "quantize:block.conv2"}
    assert {name: found[name] for name in rest} == {name: free[name] for name in rest}


def test_what_an_engine_refuses_stays_in_fp32_unless_the_recipe_says_otherwise(prepared: PreparedModel) -> None:
    refusing = replace(prepared, tuned=TunedQuantization(("fc", "stem.0")))
    found = candidates(refusing, Quantize(layers={"fc": "int8"}))
    assert found["quantize:stem.0"] == ["fp32"]
    assert found["quantize:fc"] == ["int8"]


def test_a_candidate_that_the_site_does_not_have_is_refused(prepared: PreparedModel) -> None:
    class Wrong(Quantize):
        def pinned(self, prepared: PreparedModel) -> dict[str, str]:
            return {"quantize:fc": "int4"}

    with pytest.raises(InputError, match="quantize:fc cannot be 'int4'; allowed: fp32, int8"):
        _ = PlanSpace(prepared, (Wrong(),)).open_sites


def test_the_problem_charges_a_pinned_layer_as_what_it_is(prepared: PreparedModel, tools: Any) -> None:
    """Also the borders between pinned layers, and between a pinned and a free one."""
    pins = {"block.*": "int8", "fc": "fp32", "depthwise": "int8", "add": "fp32"}
    transforms = (Narrow(), Quantize(layers=pins))  # type: ignore[arg-type]
    problem, profile = tools.random_problem(prepared, transforms, {"latency": 1e9}), tools.random_profile(prepared)
    validate_problem(problem)
    rng = np.random.default_rng(0)
    for choice in (random_choice(problem.sites, rng) for _ in range(20)):
        assert is_plan(problem, choice)
        assert (choice["quantize:block.conv1"], choice["quantize:fc"]) == ("int8", "fp32")
        real, found = PlanSpace(prepared, transforms).predict(profile, choice), plan_cost(problem, choice)
        assert found["latency"] == pytest.approx(real["latency"])
        assert found["size"] == pytest.approx(real["size"])


def test_pins_hold_through_the_search(started: State, run: Callable[..., State], tmp_path: Path) -> None:
    """All int8 is among the plans that the profile measured, and holds the limit; the pin goes before."""
    layers = {"fc": "fp32", "add": "fp32", "depthwise": "int8"}
    state = run(started, "profile", tmp_path, transforms={"quantize": {"layers": layers}}, plans=2, images=32)
    state = run(state, "sensitivity", tmp_path, images=8, plans=0)
    profile = load_profile(state)
    meter = PlanMeter(load_plan_space(state), replace(state, out=tmp_path))
    loop = SearchLoop(
        Search().loop_options(),
        meter,
        Milp(),
        ExpectedLosses.load(state.product("sensitivity")).losses,
        {"latency": 0.8 * profile.baseline_ms},
    )
    assert {*profile.samples[1].choice.values()} == {"int8"} and loop._seems_to_hold(profile.samples[1])
    assert loop.try_profiled_plans(replace(profile, samples=profile.samples[:2])) is None
    limits = Limits(latency_p50=Bound(value=0.8, unit="x"))
    state = run(replace(state, limits=limits), "search", tmp_path, front=0, alternatives=0)
    plan = json.loads((state.product("plan") / "plan.json").read_text())
    assert {name: plan["choice"][f"quantize:{name}"] for name in layers} == layers
    bits = {layer["name"]: layer["bits"] for layer in plan["layers"]}
    assert (bits["fc"], bits["add"], bits["depthwise"]) == (32, 32, 8)
    samples = json.loads((state.product("profile") / "profile.json").read_text())["samples"]
    assert all(sample["choice"]["quantize:fc"] == "fp32" for sample in samples[2:])
