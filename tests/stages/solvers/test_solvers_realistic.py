"""The solvers on a problem as large as a real network's, and the random baseline."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest

from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import (
    Candidate,
    CostFactor,
    Problem,
    Site,
    cost_names,
    first_plan,
    holds_limits,
    is_plan,
    limit_excess,
    plan_cost,
    with_limits,
)
from paredown.stages.solvers.random import RandomSearch

Plan = Mapping[str, str]
Table = dict[tuple[str, ...], dict[str, float]]
WIDTHS = ("1.0", "0.875", "0.75", "0.625", "0.5", "0.375")


def realistic(layers: int, share: float = 0.5) -> Problem:
    """A chain of layers, each priced by its input width, output width and precision, with borders between them.

    Memory at a step is all weights plus the activations that are live there; limits are `share` of the original.
    """
    rng = np.random.default_rng(0)
    groups = max(layers * 30 // 55, 1)
    sites = [width_site(f"w{group}", float(rng.lognormal(-2, 1))) for group in range(groups)]
    sites += [
        Site(f"q{i}", (Candidate("fp32"), Candidate("int8", float(rng.lognormal(-4, 1.5))))) for i in range(layers)
    ]
    factors = [layer_factor(rng, i, i * groups // layers, (i + 1) * groups // layers % groups) for i in range(layers)]
    for i in range(layers - 1):
        crossing = {"latency": float(rng.uniform(0.02, 0.3))}
        table: Table = {("fp32", "int8"): crossing, ("int8", "fp32"): crossing}
        factors.append(CostFactor((f"q{i}", f"q{i + 1}"), table))
    fixed = {"latency": 1.0, "size": 0.5} | {f"memory@{step}": 40.0 for step in range(layers + 15)}
    problem = Problem(tuple(sites), tuple(factors), fixed=fixed)
    base = plan_cost(problem, first_plan(problem))
    return with_limits(problem, {"latency": share * base["latency"], "size": share * base["size"], "memory": 95.0})


def width_site(name: str, sensitivity: float) -> Site:
    return Site(name, tuple(Candidate(width, sensitivity * (1 - float(width)) ** 1.5) for width in WIDTHS))


def layer_factor(rng: np.random.Generator, layer: int, read: int, written: int) -> CostFactor:
    """Layers within a group read and write the same width."""
    time, size = float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.5, 3))
    live = 6 * math.exp(-layer / 25) * float(rng.uniform(0.4, 1.3))
    table: Table = {}
    for a, b, bits in itertools.product(WIDTHS, WIDTHS, ("fp32", "int8")):
        area, share = float(a) * float(b), 1.0 if bits == "fp32" else 0.25
        noise = float(rng.uniform(-0.05, 0.05))
        costs = {"latency": time * (area * (0.4 + 0.6 * share) + noise), "size": size * area * share}
        for step in range(70):
            near = max(layer - 1, 0) <= step < layer + 3
            costs[f"memory@{step}"] = size * area * share + (live * float(b) * share if near else 0.0)
        if read != written or a == b:
            table[(a, bits) if read == written else (a, b, bits)] = costs
    return CostFactor((f"w{read}", f"q{layer}") if read == written else (f"w{read}", f"w{written}", f"q{layer}"), table)


def test_a_realistic_problem_is_solved_to_the_gap() -> None:
    problem = realistic(layers=55, share=0.35)
    assert len(cost_names(problem)) == 72
    answer = Milp().solve(problem)
    assert answer.feasible and answer.gap <= 1e-3
    assert holds_limits(problem, answer.choice)


def test_the_same_problem_has_the_same_answer_and_random_search_finds_none_better() -> None:
    problem = realistic(layers=24)
    answer = Milp().solve(problem)
    assert Milp().solve(problem).choice == answer.choice
    baseline = RandomSearch(evaluations=300).solve(problem)
    assert baseline.feasible
    assert answer.loss <= baseline.loss * (1 + 1e-3)


def test_random_search_repairs_what_blind_draws_miss() -> None:
    candidates = (Candidate("fast", 1.0), *(Candidate(f"slow{i}", 0.0, {"latency": 1.0}) for i in range(3)))
    problem = Problem(tuple(Site(f"s{i}", candidates) for i in range(20)), limits={"latency": 4.0})
    repaired = RandomSearch(repairs=200).solve(problem)
    assert repaired.feasible and holds_limits(problem, repaired.choice)
    assert repaired.gap == math.inf
    assert not RandomSearch(repairs=0).solve(problem).feasible


def test_random_search_draws_other_plans_with_another_seed() -> None:
    plans = [RandomSearch(evaluations=1, seed=seed).solve(realistic(layers=12)).choice for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_random_search_counts_every_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Plan] = []

    def counted(problem: Problem, plan: Plan) -> dict[str, float]:
        seen.append(plan)
        return limit_excess(problem, plan)

    monkeypatch.setattr("paredown.stages.solvers.random.limit_excess", counted)
    RandomSearch(evaluations=37).solve(realistic(layers=12))
    assert len(seen) == 37


def test_a_time_limit_leaves_a_plan_and_claims_no_proof() -> None:
    problem = realistic(layers=12)
    answer = Milp(seconds=1e-9).solve(problem)
    assert is_plan(problem, answer.choice)
    assert answer.gap == math.inf
    assert answer.feasible == holds_limits(problem, answer.choice)
