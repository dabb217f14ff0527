"""What every solver keeps, whatever it is: run for each one that discovery finds."""

from typing import Any

import pytest

from paredown.stages.plugins import load_plugin, plugin_names
from paredown.stages.solvers.base import Solver, is_far
from paredown.stages.solvers.problem import (
    Candidate,
    CostFactor,
    Problem,
    Site,
    holds_limits,
    is_plan,
    plan_cost,
    plan_loss,
    with_limits,
)

SOLVERS = plugin_names("solvers")


@pytest.fixture(params=SOLVERS)
def solver(request: pytest.FixtureRequest) -> Solver:
    made: Solver = load_plugin("solvers", request.param)()
    return made


def network(latency: float = 7.0) -> Problem:
    """Six layers in fp32 or int8 with costly borders; the fourth may be replaced, and then has no precision."""
    bits = (Candidate("fp32", 0.0, {"latency": 2.0}), Candidate("int8", 0.1, {"latency": 1.0}))
    block = Site("block", (Candidate("keep"), Candidate("swap", 0.4, {"latency": 0.5})))
    layers = [Site(f"q{i}", bits, ("block", "keep") if i == 3 else None) for i in range(6)]
    crossing: dict[tuple[str, ...], dict[str, float]] = {
        ("fp32", "int8"): {"latency": 0.3},
        ("int8", "fp32"): {"latency": 0.3},
    }
    borders = [CostFactor((f"q{i}", f"q{i + 1}"), crossing) for i in range(5)]
    return Problem((*layers, block), tuple(borders), {"latency": latency}, {"latency": 0.5})


def told(solver: Solver, problem: Problem, **options: Any) -> dict[str, Any]:
    answer = solver.solve(problem, **options)
    assert is_plan(problem, answer.choice)
    assert answer.loss == pytest.approx(plan_loss(problem, answer.choice))
    assert dict(answer.costs) == pytest.approx(plan_cost(problem, answer.choice))
    assert answer.gap >= 0
    return {"choice": dict(answer.choice), "feasible": answer.feasible, "least": dict(answer.least)}


def test_there_are_solvers() -> None:
    assert {"milp", "random"} <= set(SOLVERS)


def test_a_problem_with_room_is_solved(solver: Solver) -> None:
    answer = told(solver, network(8.0))
    assert answer["feasible"] and answer["least"] == {}
    assert holds_limits(network(8.0), answer["choice"])


def test_the_same_arguments_give_the_same_plan(solver: Solver) -> None:
    assert told(solver, network()) == told(solver, network())


def test_avoided_plans_are_left_behind(solver: Solver) -> None:
    problem = network(9.0)
    first = told(solver, problem)["choice"]
    second = told(solver, problem, avoid=(first,), distance=0.4)
    assert second["feasible"] and holds_limits(problem, second["choice"])
    assert is_far(second["choice"], (first,), 0.4)


def test_an_infeasible_problem_gives_a_near_plan_and_no_false_proof(solver: Solver) -> None:
    problem = network(2.0)
    answer = told(solver, problem)
    assert not answer["feasible"]
    assert plan_cost(problem, answer["choice"])["latency"] <= 8.0
    assert all(value <= 6.0 + 1e-6 for value in answer["least"].values())


def test_an_avoided_plan_that_cannot_be_left_is_reported_not_raised(solver: Solver) -> None:
    single = Problem((Site("s", (Candidate("only"),)),))
    assert not told(solver, single, avoid=({"s": "only"},), distance=1.0)["feasible"]


def test_an_unlimited_problem_has_an_answer(solver: Solver) -> None:
    assert told(solver, with_limits(network(), {"latency": 1e9}))["feasible"]


def test_a_malformed_problem_is_refused(solver: Solver) -> None:
    with pytest.raises(ValueError, match="no candidates"):
        solver.solve(Problem((Site("s", ()),)))
