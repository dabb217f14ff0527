"""Plans that tell the terms of the cost model apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from paredown.stages.analysis.dataflow import layer_borders
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.teaching_plans import alternating_plans, fastest, sought_plan
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import is_plan
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.substitute import Substitute

BOTH = (Narrow(), Quantize())


def widths(space: PlanSpace, choice: Mapping[str, str]) -> set[tuple[bool, bool]]:
    """Whether layers keep all of what they read, and of what they write."""
    plain = dict(space.forms({}))
    return {
        (form.channels_in == plain[layer].channels_in, form.channels_out == plain[layer].channels_out)
        for layer, form in space.forms(choice)
    }


def test_alternating_plans_tell_inputs_from_outputs_and_have_borders_both_ways(prepared: PreparedModel) -> None:
    space = PlanSpace(prepared, BOTH)
    plans = list(alternating_plans(space))
    assert len(plans) == 6
    assert {(True, False), (False, True)} <= set[tuple[bool, bool]]().union(*(widths(space, plan) for plan in plans))
    ways = set()
    for plan in plans:
        bits = {layer.name: form.bits for layer, form in space.forms(plan)}
        ways |= {(bits[a.name], bits[b.name]) for a, b, _ in layer_borders(prepared)}
    assert ways == {(8, 8), (8, 32), (32, 8), (32, 32)}


def test_blocks_stay_where_plans_alternate(supernet: PreparedModel) -> None:
    space = PlanSpace(supernet, (Substitute(), *BOTH))
    for plan in alternating_plans(space):
        assert "block.conv1" in {layer.name for layer, _ in space.forms(plan)}


def test_sought_plans_are_plans_of_a_solver(prepared: PreparedModel, tools: Any) -> None:
    space, profile, rng = PlanSpace(prepared, BOTH), tools.random_profile(prepared), np.random.default_rng(0)
    losses = {site.name: {c.name: 0.0 for c in site.candidates} for site in space.sites}
    problem = build_problem(space, profile, losses, {"latency": 1.0})
    plans = [sought_plan(space, profile, Milp(), rng) for _ in range(6)]
    assert all(is_plan(problem, plan) for plan in plans)
    assert len({tuple(sorted(plan.items())) for plan in plans}) > 3
    predicted = [space.predict(profile, plan)["latency"] for plan in plans]
    assert fastest(problem, Milp()) <= min(predicted) + 1e-9
    assert max(predicted) > 1.1 * min(predicted), "at several limits"
