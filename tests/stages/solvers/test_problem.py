"""Problems as data: costs of plans, limits, and what is refused."""

import math
from dataclasses import replace

import pytest

from paredown.stages.solvers.problem import (
    Candidate,
    CostFactor,
    Problem,
    Site,
    first_plan,
    holds_limits,
    is_plan,
    limit_bounds,
    limit_excess,
    owners_first,
    plan_cost,
    plan_loss,
    validate_problem,
    with_limits,
)


def block() -> Problem:
    """A block that stays (and then has an inner layer) or is replaced; listed with the inner site first."""
    inner = Site("inner", (Candidate("fp32"), Candidate("int8", 0.1, {"latency": -1.0})), owner=("block", "keep"))
    outer = Site("block", (Candidate("keep", 0.0, {"latency": 4.0}), Candidate("swap", 0.5, {"latency": 2.0})))
    head = Site("head", (Candidate("fp32"), Candidate("int8", 0.2)))
    border = CostFactor(("inner", "head"), {("int8", "fp32"): {"latency": 0.25, "memory@1": 3.0}})
    return Problem((inner, outer, head), (border,), {"latency": 4.0, "memory": 7.0}, {"latency": 1.0, "memory@0": 8.0})


def test_cost_adds_fixed_unary_and_joint_costs() -> None:
    choice = {"block": "keep", "inner": "int8", "head": "fp32"}
    assert plan_cost(block(), choice) == {"latency": 4.25, "memory@0": 8.0, "memory@1": 3.0}
    assert plan_loss(block(), choice) == pytest.approx(0.1)


def test_a_factor_counts_only_where_all_its_sites_exist_and_lists_the_combination() -> None:
    assert plan_cost(block(), {"block": "swap", "head": "fp32"})["latency"] == 3.0
    assert plan_cost(block(), {"block": "keep", "inner": "int8", "head": "int8"})["latency"] == 4.0


def test_excess_is_relative_and_takes_the_largest_budget_of_a_family() -> None:
    over = limit_excess(block(), {"block": "keep", "inner": "fp32", "head": "fp32"})
    assert over == {"latency": pytest.approx(0.25), "memory": pytest.approx(1 / 7)}
    assert limit_excess(block(), {"block": "swap", "head": "fp32"})["latency"] == 0.0


def test_a_limit_holds_at_its_very_value() -> None:
    loose = with_limits(block(), {"memory": 8.0})
    assert holds_limits(loose, {"block": "keep", "inner": "int8", "head": "int8"})
    assert not holds_limits(loose, {"block": "keep", "inner": "int8", "head": "fp32"})
    assert loose.limits == {"latency": 4.0, "memory": 8.0}


def test_a_limit_bounds_its_own_budget_and_its_family() -> None:
    assert limit_bounds("memory", "memory@12") and limit_bounds("latency", "latency")
    assert not limit_bounds("memory", "memory_map") and not limit_bounds("mem", "memory@1")


def test_owners_come_first_and_the_first_plan_is_a_plan() -> None:
    assert [site.name for site in owners_first(block())] == ["block", "head", "inner"]
    assert first_plan(block()) == {"block": "keep", "head": "fp32", "inner": "fp32"}
    assert is_plan(block(), first_plan(block()))


@pytest.mark.parametrize(
    "choice",
    [
        {"block": "swap", "head": "fp32", "inner": "fp32"},
        {"block": "keep", "head": "fp32"},
        {"block": "keep", "inner": "int4", "head": "fp32"},
        {"block": "swap", "head": "fp32", "tail": "fp32"},
    ],
)
def test_what_is_no_plan(choice: dict[str, str]) -> None:
    assert not is_plan(block(), choice)


ONE = Site("a", (Candidate("x"), Candidate("y")))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Problem(()), "no sites"),
        (Problem((Site("a", ()),)), "'a' has no candidates"),
        (Problem((ONE, ONE)), "names the site 'a' twice"),
        (Problem((Site("a", (Candidate("x"), Candidate("x"))),)), "names the candidate 'x' twice"),
        (Problem((replace(ONE, owner=("b", "x")),)), "owned by"),
        (Problem((ONE, Site("b", (Candidate("x"),), ("a", "z")))), "owned by"),
        (
            Problem((replace(ONE, owner=("b", "x")), Site("b", (Candidate("x"),), ("a", "x")))),
            "form a ring: a, b",
        ),
        (Problem((ONE,), (CostFactor(("b",), {}),)), "unknown site 'b'"),
        (Problem((ONE,), (CostFactor((), {}),)), "names no site"),
        (Problem((ONE,), (CostFactor(("a", "a"), {}),)), "names the site 'a' twice"),
        (Problem((ONE,), (CostFactor(("a",), {("x", "y"): {}}),)), "needs 1 names"),
        (Problem((ONE,), (CostFactor(("a",), {("z",): {}}),)), "'z', which is no candidate of 'a'"),
        (Problem((ONE,), (CostFactor(("a",), {("x",): {"latency": math.nan}}),)), "latency = nan"),
        (Problem((Site("a", (Candidate("x", math.inf),)),)), "loss = inf"),
        (Problem((ONE,), (), {"latency": 1.0}), "bounds no cost; costs are: none"),
        (Problem((ONE,), (), {"latency": 0.0}, {"latency": 1.0}), "limits are positive"),
        (Problem((ONE,), (), {}, {"latency": math.inf}), "fixed cost has latency = inf"),
    ],
)
def test_malformed_problems_are_refused_by_name(problem: Problem, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_problem(problem)
