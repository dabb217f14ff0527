"""The solvers against brute force on small random problems, and the exact one on a large realistic one."""

import ctypes
import itertools
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import milp

from paredown.stages.solvers import highs
from paredown.stages.solvers.base import is_far, sweep_budgets
from paredown.stages.solvers.linear_program import linearise
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import (
    TOLERANCE,
    BorderCharge,
    Candidate,
    CostFactor,
    Problem,
    Site,
    holds_limits,
    is_plan,
    largest_cost,
    limit_excess,
    owners_first,
    plan_cost,
    plan_loss,
    site_exists,
    with_limits,
)

Plan = Mapping[str, str]
Table = dict[tuple[str, ...], dict[str, float]]
LIMITS = ("latency", "memory", "size")


def every_plan(problem: Problem) -> list[dict[str, str]]:
    plans: list[dict[str, str]] = [{}]
    for site in owners_first(problem):
        there = [plan for plan in plans if site_exists(site, plan)]
        grown = [{**plan, site.name: candidate.name} for plan in there for candidate in site.candidates]
        plans = [plan for plan in plans if not site_exists(site, plan)] + grown
    return [plan for plan in plans if is_plan(problem, plan)]


def random_costs(rng: np.random.Generator) -> dict[str, float]:
    """Some budgets, some of them negative: corrections."""
    names = ("latency", "size", "memory@0", "memory@1", "memory@2")
    return {name: float(rng.uniform(-0.5, 2)) for name in names if rng.random() < 0.8}


def random_site(rng: np.random.Generator, name: str, others: list[Site]) -> Site:
    """Half of the sites are owned by an earlier one, which may be owned itself."""
    count = int(rng.integers(1, 4))
    candidates = tuple(Candidate(f"c{i}", float(rng.uniform(0, 1)), random_costs(rng)) for i in range(count))
    if not others or rng.random() < 0.5:
        return Site(name, candidates)
    owner = others[rng.integers(len(others))]
    return Site(name, candidates, (owner.name, owner.candidates[rng.integers(len(owner.candidates))].name))


def tied(rng: np.random.Generator, sites: list[Site]) -> list[Site]:
    """Sometimes the last candidates of two sites without owners need each other."""
    free = [i for i, site in enumerate(sites) if not site.owner and len(site.candidates) > 1]
    if len(free) < 2 or rng.random() < 0.5:
        return sites
    pair = [sites[i] for i in free[:2]]
    for number, other in zip(free, reversed(pair), strict=False):
        *others, last = sites[number].candidates
        need = (other.name, other.candidates[-1].name)
        sites[number] = replace(sites[number], candidates=(*others, replace(last, needs=(need,))))
    return sites


def random_factor(rng: np.random.Generator, sites: list[Site]) -> CostFactor:
    """Over one to three sites; some combinations are not listed, and some can never exist."""
    count = min(len(sites), int(rng.integers(1, 4)))
    picked = [sites[i] for i in rng.permutation(len(sites))[:count]]
    combinations = itertools.product(*([candidate.name for candidate in site.candidates] for site in picked))
    table = {names: random_costs(rng) for names in combinations if rng.random() < 0.6}
    return CostFactor(tuple(site.name for site in picked), table)


def random_charge(rng: np.random.Generator, sites: list[Site]) -> BorderCharge:
    """Over one site without an owner or none; its occasions differ in one site's pick, so one at most comes true."""
    site = sites[rng.integers(len(sites))]
    free = [other for other in sites if not other.owner]
    over = [free[rng.integers(len(free))]] if rng.random() < 0.7 else []
    when = tuple(
        (frozenset({(site.name, candidate.name)}), *(some_picks(rng, sites) for _ in range(rng.integers(0, 3))))
        for candidate in site.candidates[:2]
    )
    combinations = itertools.product(*([candidate.name for candidate in one.candidates] for one in over))
    table = {names: {"latency": float(rng.uniform(0, 2)), "size": float(rng.uniform(0, 1))} for names in combinations}
    return BorderCharge(when, tuple(one.name for one in over), table)


def some_picks(rng: np.random.Generator, sites: list[Site]) -> frozenset[tuple[str, str]]:
    site = sites[rng.integers(len(sites))]
    return frozenset((site.name, c.name) for c in site.candidates if rng.random() < 0.7)


def random_problem(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    sites: list[Site] = []
    for number in range(int(rng.integers(2, 6))):
        sites.append(random_site(rng, f"s{number}", sites))
    sites = tied(np.random.default_rng(seed), sites)
    shuffled = tuple(sites[i] for i in rng.permutation(len(sites)))
    factors = tuple(random_factor(rng, sites) for _ in range(rng.integers(0, 5)))
    charges = tuple(random_charge(rng, sites) for _ in range(rng.integers(0, 4)))
    fixed = dict.fromkeys(("latency", "memory@0", "memory@1", "size"), 2.0)
    problem = Problem(shuffled, factors, fixed=fixed, charges=charges)
    costs = [plan_cost(problem, plan) for plan in every_plan(problem)]
    limits = {name: float(np.quantile([largest_cost(c, name) for c in costs], rng.uniform(0, 0.6))) for name in LIMITS}
    tight = rng.choice([1.0, 0.999, 0.5], p=[0.6, 0.2, 0.2])
    return with_limits(problem, {name: max(value * tight, 0.05) for name, value in limits.items()})


def owner_of(problem: Problem, pick: tuple[str, str]) -> tuple[str, str] | None:
    return next(site.owner for site in problem.sites if site.name == pick[0])


def random_avoid(seed: int, plans: list[dict[str, str]]) -> tuple[tuple[Plan, ...], float]:
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, len(plans), rng.integers(0, 3))
    return tuple(plans[i] for i in picked), float(rng.choice([0.1, 0.5, 1.0]))


def worst(problem: Problem, plan: Plan) -> float:
    return max(limit_excess(problem, plan).values())


def test_the_random_problems_cover_what_they_should() -> None:
    problems = [random_problem(seed) for seed in range(60)]
    answers = [Milp().solve(problem) for problem in problems]
    assert 10 < sum(answer.feasible for answer in answers) < 45
    owned = [[site for site in problem.sites if site.owner] for problem in problems]
    names = [{site.name for site in sites} for sites in owned]
    assert any(s.owner and s.owner[0] in own for sites, own in zip(owned, names, strict=True) for s in sites)
    assert any(len(factor.sites) == 3 for problem in problems for factor in problem.factors)
    candidates = [c for problem in problems for site in problem.sites for c in site.candidates]
    assert sum(bool(candidate.needs) for candidate in candidates) > 10
    charges = [charge for problem in problems for charge in problem.charges]
    owned_terms = [{owner_of(p, pick) for pick in t} for p in problems for c in p.charges for o in c.when for t in o]
    assert len(charges) > 40 and any(None not in owners for owners in owned_terms if owners)


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_milp_agrees_with_brute_force(start: int) -> None:
    for seed in range(start, start + 10):
        problem = random_problem(seed)
        plans = every_plan(problem)
        avoid, distance = random_avoid(seed, plans)
        answer = Milp(gap=0).solve(problem, avoid, distance)
        good = [plan for plan in plans if is_far(plan, avoid, distance) and holds_limits(problem, plan)]
        assert answer.feasible == bool(good), seed
        assert is_plan(problem, answer.choice)
        assert answer.costs == plan_cost(problem, answer.choice)
        assert answer.loss == plan_loss(problem, answer.choice)
        if good:
            assert answer.choice in good
            assert answer.loss <= min(plan_loss(problem, plan) for plan in good) + 1e-4, seed
            assert answer.least == {}


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_the_nearest_plan_and_the_proofs_agree_with_brute_force(start: int) -> None:
    for seed in range(start, start + 10):
        problem = random_problem(seed)
        answer = Milp(gap=0).solve(problem)
        if answer.feasible:
            continue
        plans, over = every_plan(problem), limit_excess(problem, answer.choice)
        assert worst(problem, answer.choice) <= min(worst(problem, plan) for plan in plans) * 1.001 + TOLERANCE
        assert set(answer.least) == {name for name, value in over.items() if value > TOLERANCE}
        for name, least in answer.least.items():
            assert least == pytest.approx(min(largest_cost(plan_cost(problem, plan), name) for plan in plans), rel=1e-5)
        no_worse = [p for p in plans if all(limit_excess(problem, p)[name] <= over[name] for name in over)]
        assert answer.loss <= min(plan_loss(problem, plan) for plan in no_worse) + 1e-4


def knapsack(limit: float) -> Problem:
    """Four sites; picking `b` at site i saves 2**i ms for a loss of i + 1."""
    sites = [
        Site(f"s{i}", (Candidate("a", 0.0, {"latency": 2.0**i}), Candidate("b", i + 1.0, {"latency": 0.0})))
        for i in range(4)
    ]
    return Problem(tuple(sites), limits={"latency": limit}, fixed={"latency": 1.0})


def test_limits_that_cannot_hold_together_are_infeasible_though_each_alone_is_within_reach() -> None:
    fast = Candidate("fast", 0.0, {"latency": 1.0, "size": 4.0})
    small = Candidate("small", 0.1, {"latency": 4.0, "size": 1.0})
    middle = Candidate("middle", 0.2, {"latency": 2.5, "size": 2.5})
    problem = Problem((Site("s", (fast, small, middle)),), limits={"latency": 2.0, "size": 2.0})
    answer = Milp().solve(problem)
    assert not answer.feasible
    assert answer.choice == {"s": "middle"}
    assert answer.least == {"latency": pytest.approx(1.0), "size": pytest.approx(1.0)}


def test_a_factor_of_two_blocks_inner_sites_counts_exactly_where_both_are_there() -> None:
    blocks = [Site(f"b{i}", (Candidate("keep"), Candidate("swap", 1.0 + i, {"latency": 1.0}))) for i in range(2)]
    inner = [Site(f"i{i}", (Candidate("fp32"), Candidate("int8", 5.0)), (f"b{i}", "keep")) for i in range(2)]
    for price, others, best in ((9.0, {"i1": "fp32"}, "swap"), (-9.0, {"i0": "fp32", "i1": "fp32"}, "keep")):
        both = CostFactor(("i0", "i1"), {("fp32", "fp32"): {"latency": price}})
        limit, fixed = (5.0, 1.0) if price > 0 else (5.0, 13.0)
        answer = Milp().solve(Problem((*blocks, *inner), (both,), {"latency": limit}, {"latency": fixed}))
        assert answer.feasible
        assert answer.choice == {"b0": best, "b1": "keep", **others}


def test_the_nearest_plan_gives_up_no_quality_that_brings_it_no_nearer() -> None:
    free = [Site(f"s{i}", tuple(Candidate(f"c{j}", float((i + j) % 3)) for j in range(3))) for i in range(6)]
    slow = Site("slow", (Candidate("a", 0.0, {"latency": 3.0}), Candidate("b", 1.0, {"latency": 2.0})))
    answer = Milp().solve(Problem((*free, slow), limits={"latency": 1.0}))
    assert not answer.feasible
    assert answer.loss == 1.0
    assert answer.least == {"latency": pytest.approx(2.0)}


def test_of_equally_good_plans_the_cheaper_wins() -> None:
    costs = [3.0, 1.0, 2.0]
    sites = tuple(
        Site(f"s{i}", tuple(Candidate(f"c{cost_:g}", 0.5, {"latency": cost_}) for cost_ in costs)) for i in range(5)
    )
    answer = Milp().solve(Problem(sites, limits={"latency": 100.0}))
    assert set(answer.choice.values()) == {"c1"}


def test_avoided_plans_are_left_in_enough_sites() -> None:
    problem = knapsack(100.0)
    best = Milp().solve(problem)
    assert set(best.choice.values()) == {"a"}
    other = Milp().solve(problem, (best.choice,), distance=0.5)
    assert other.feasible
    assert [site for site, name in other.choice.items() if name == "b"] == ["s0", "s1"]


def test_when_no_plan_differs_enough_the_best_one_comes_back_as_infeasible() -> None:
    only = Problem((Site("s", (Candidate("a", 1.0),)), Site("t", (Candidate("a"), Candidate("b", 0.5)))))
    answer = Milp().solve(only, ({"s": "a", "t": "a"},), distance=1.0)
    assert not answer.feasible
    assert answer.choice == {"s": "a", "t": "a"}
    assert answer.least == {}


def test_sweep_gives_a_front_in_the_order_asked() -> None:
    answers = sweep_budgets(Milp(), knapsack(1.0), "latency", [16.0, 9.0, 2.0, 0.5])
    assert [answer.loss for answer in answers] == [0.0, pytest.approx(4.0), pytest.approx(9.0), pytest.approx(10.0)]
    assert [answer.feasible for answer in answers] == [True, True, True, False]
    assert answers[-1].least == {"latency": pytest.approx(1.0)}


def test_what_the_solver_prints_goes_nowhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    c = ctypes.CDLL(None)

    def noisy(*args: Any, **options: Any) -> Any:
        result = milp(*args, **options)
        os.write(1, b"from the system\n")
        c.printf(b"from C, which keeps it in a buffer of its own\n")
        return result

    monkeypatch.setattr(highs, "milp", noisy)
    assert Milp().solve(knapsack(9.0)).feasible
    c.fflush(None)
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"


def test_the_standard_output_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), highs.silenced_stdout():
        os.write(1, b"inside\n")
        raise RuntimeError
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"


def test_candidates_that_a_factor_cannot_tell_apart_share_columns() -> None:
    names = [f"c{i}" for i in range(20)]
    sites = tuple(Site(name, tuple(Candidate(n) for n in names)) for name in ("a", "b"))
    border: Table = {(m, n): {"latency": 1.0} for m in names for n in names if int(m[1:]) % 2 != int(n[1:]) % 2}
    linear = linearise(Problem(sites, (CostFactor(("a", "b"), border),)))
    assert linear.loss.size == 40 + 4
