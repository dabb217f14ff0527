"""The search problem says of every plan what the cost model predicts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.limits import Bound, Limits
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.problem_builder import build_problem, search_limits
from paredown.stages.planning.sites import random_choice
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.solvers.problem import BorderCharge, is_plan, largest_cost, plan_loss, validate_problem
from paredown.stages.solvers.problem import plan_cost as plan_cost
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.resize import Resize

BASELINE = Evidence(LatencyEvidence(4.0, 6.0, 0.1, 100, 5), 8.0, 90.0, {}, {}, "", {})


@pytest.mark.parametrize(
    "transforms",
    [
        (Narrow(), Quantize()),
        (Quantize(),),
        (Narrow(),),
        (Narrow(levels=(0.5,), round_to=16), Quantize()),
        (Resize(round_to=4), Narrow(), Quantize()),
        (Resize(),),
    ],
    ids=["both", "quantize", "narrow", "few widths", "all three", "resize"],
)
def test_every_plan_costs_what_is_predicted(
    prepared: PreparedModel, tools: Any, transforms: tuple[Transform, ...]
) -> None:
    problem = tools.random_problem(prepared, transforms, {"latency": 1.0, "size": 1.0, "memory": 100.0})
    validate_problem(problem)
    rng, profile = np.random.default_rng(0), tools.random_profile(prepared)
    drawn = [random_choice(problem.sites, rng) for _ in range(20)]
    assert all(len({choice[site.name] for choice in drawn}) > 1 for site in problem.sites)
    for choice in drawn:
        assert is_plan(problem, choice)
        predicted, found = PlanSpace(prepared, transforms).predict(profile, choice), plan_cost(problem, choice)
        assert found["latency"] == pytest.approx(predicted["latency"])
        assert found["size"] == pytest.approx(predicted["size"])
        assert largest_cost(found, "memory") <= predicted["memory"] + 1e-9


def test_with_caution_every_part_costs_its_deviation_more(prepared: PreparedModel, tools: Any) -> None:
    space, profile = PlanSpace(prepared, (Narrow(), Quantize())), tools.random_profile(prepared)
    losses = {site.name: {c.name: 0.0 for c in site.candidates} for site in space.sites}
    problems = [build_problem(space, profile, losses, {"latency": 1.0}, caution) for caution in (0.0, 1.0, 2.0)]
    plain = {site.name: site.candidates[0].name for site in space.sites}
    for choice in (plain, {**plain, "quantize:block.conv1": "int8"}):
        expected, once, twice = (plan_cost(problem, choice)["latency"] for problem in problems)
        each = [space.latency_model(profile).layer(*one).deviation for one in space.forms(choice)]
        layers = sum(each) * space.latency_scale(profile)
        assert once - expected == pytest.approx(twice - once)
        assert (once - expected == pytest.approx(layers)) == (choice is plain), "conversions too"


def test_memory_is_exact_where_the_peak_is(prepared: PreparedModel, tools: Any) -> None:
    transforms = (Narrow(), Quantize())
    problem = tools.random_problem(prepared, transforms, {"memory": 100.0})
    predicted = PlanSpace(prepared, transforms).predict(tools.random_profile(prepared), {})
    plain = {site.name: site.candidates[0].name for site in problem.sites}
    assert largest_cost(plan_cost(problem, plain), "memory") == pytest.approx(predicted["memory"])


def test_only_what_has_pixels_depends_on_the_input(prepared: PreparedModel, tools: Any) -> None:
    problem = tools.random_problem(prepared, (Resize(), Quantize()), {"latency": 1.0})
    scopes = {factor.sites for factor in problem.factors}
    assert ("resize:input", "quantize:stem.0") in scopes
    assert ("resize:input", "quantize:add") in scopes
    assert ("quantize:fc",) in scopes
    crossing = [charge for charge in problem.charges if (("quantize:block.conv2", "int8"),) in picks_in(charge)]
    assert [charge.sites for charge in crossing] == [("resize:input",)], "a border's elements"


def picks_in(charge: BorderCharge) -> set[tuple[tuple[str, str], ...]]:
    """The last terms of its occasions: what reads."""
    return {tuple(occasion[-1]) for occasion in charge.when}


def test_a_border_costs_by_its_direction_and_nothing_within_one_precision(prepared: PreparedModel, tools: Any) -> None:
    problem = tools.random_problem(prepared, (Quantize(),), {"latency": 1.0})
    plan = {site.name: "fp32" for site in problem.sites}
    borders = replace(problem, factors=())
    assert plan_cost(borders, plan) == problem.fixed
    one, other = "quantize:block.conv1", "quantize:block.conv2"
    between = [
        charge for charge in problem.charges if any(len(o) == 2 and {one, other} == sites(o) for o in charge.when)
    ]
    assert len(between) == 2
    prices = []
    for quantized in (one, other):
        alone = replace(borders, charges=tuple(between))
        prices.append(plan_cost(alone, {**plan, quantized: "int8"})["latency"] - problem.fixed["latency"])
    assert sorted(prices) == pytest.approx(sorted(next(iter(c.table.values()))["latency"] for c in between))
    assert min(prices) > 0 and plan_cost(borders, {**plan, one: "int8", other: "int8"})["latency"] > 0


def sites(occasion: tuple[frozenset[tuple[str, str]], ...]) -> set[str]:
    return {site for term in occasion for site, _ in term}


def test_steps_are_only_there_for_a_memory_limit(prepared: PreparedModel, tools: Any) -> None:
    problem = tools.random_problem(prepared, (Quantize(),), {"latency": 1.0})
    assert set(plan_cost(problem, {})) <= {"latency", "size"}


def test_losses_are_those_given(prepared: PreparedModel, tools: Any) -> None:
    problem = tools.random_problem(prepared, (Narrow(),), {"size": 1.0})
    site = problem.sites[0]
    choice = {s.name: s.candidates[0].name for s in problem.sites}
    better = {**choice, site.name: site.candidates[-1].name}
    assert plan_loss(problem, better) - plan_loss(problem, choice) == pytest.approx(
        site.candidates[-1].loss - site.candidates[0].loss
    )


def test_limits_become_budgets_with_a_margin() -> None:
    limits = Limits(
        latency_p50=Bound(value=0.5, unit="x"), size=Bound(value=3, unit="MiB"), peak_memory=Bound(value=0.9, unit="x")
    )
    assert search_limits(limits, BASELINE, 0.1) == pytest.approx({"latency": 1.8, "size": 2.7, "memory": 72.9})


def test_a_p95_limit_is_held_through_the_median() -> None:
    alone = Limits(latency_p95=Bound(value=3, unit="ms"))
    assert search_limits(alone, BASELINE, 0.0) == pytest.approx({"latency": 2.0})
    both = Limits(latency_p95=Bound(value=3, unit="ms"), latency_p50=Bound(value=0.25, unit="x"))
    assert search_limits(both, BASELINE, 0.0) == pytest.approx({"latency": 1.0})


def test_accuracy_is_no_budget() -> None:
    assert search_limits(Limits(accuracy_drop=1.0), BASELINE, 0.02) == {}


def test_room_for_metadata_is_taken_off_the_size() -> None:
    size = Limits(size=Bound(value=2, unit="MiB"))
    assert search_limits(size, BASELINE, 0.1, metadata=0.5) == pytest.approx({"size": 1.35})
    assert search_limits(size, BASELINE, 0.1, metadata=5) == pytest.approx({"size": 0.9})  # at most half of it
    assert search_limits(Limits(latency_p50=Bound(value=1, unit="x")), BASELINE, 0.0, metadata=5) == {"latency": 4.0}
