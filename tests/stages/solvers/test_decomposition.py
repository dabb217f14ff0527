"""A site that most factors depend on is tried candidate by candidate, with the result of one program over all."""

from dataclasses import replace
from typing import Any

import pytest

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.solvers import decomposition
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import CostFactor, Problem, Site, is_plan, plan_loss, with_limits
from paredown.stages.solvers.problem import plan_cost as plan_cost
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.resize import Resize


@pytest.fixture
def problem(prepared: PreparedModel, tools: Any) -> Problem:
    found: Problem = tools.random_problem(prepared, (Narrow(), Resize(round_to=4), Quantize()), {"latency": 1.0})
    plain = plan_cost(found, {site.name: site.candidates[0].name for site in found.sites})
    return with_limits(found, {"latency": 0.7 * plain["latency"]})


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small network's problem has few factors: as if that were many."""
    monkeypatch.setattr(decomposition, "FEW", 2)


def test_small_problems_and_such_without_a_hub_stay_whole(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decomposition.problem_parts(problem)
    monkeypatch.setattr(decomposition, "FEW", 2)
    without = Problem(problem.sites, tuple(CostFactor((site.name,), {}) for site in problem.sites))
    assert [whole, decomposition.problem_parts(without)] == [(problem,), (without,)]


@pytest.mark.usefixtures("split")
def test_every_part_says_of_its_plans_what_the_whole_says(problem: Problem) -> None:
    sides = []
    for part in decomposition.problem_parts(problem):
        choice = {site.name: site.candidates[-1].name for site in part.sites}
        sides.append(choice["resize:input"])
        assert is_plan(part, choice)
        assert is_plan(problem, choice)
        assert plan_cost(part, choice) == plan_cost(problem, choice)
    assert sides == ["24", "20", "16"]


@pytest.mark.usefixtures("split")
def test_sites_that_own_others_are_never_split(problem: Problem) -> None:
    owned = tuple(
        Site(site.name, site.candidates, ("resize:input", "24")) if site.name == "quantize:fc" else site
        for site in problem.sites
    )
    sites = decomposition.problem_parts(Problem(owned, problem.factors, problem.limits, problem.fixed))[0].sites
    assert next(len(site.candidates) for site in sites if site.name == "resize:input") == 3


@pytest.mark.usefixtures("split")
def test_what_other_candidates_need_is_never_split(problem: Problem) -> None:
    """A part would lack what they name."""
    needs = {"quantize:fc": ("resize:input", "20"), "resize:input": ("quantize:fc", "int8")}
    tied = tuple(
        replace(site, candidates=(*site.candidates[:-1], replace(site.candidates[-1], needs=(needs[site.name],))))
        if site.name in needs
        else site
        for site in problem.sites
    )
    whole = replace(problem, sites=tied)
    left = {site.name: site for site in decomposition.problem_parts(whole)[0].sites}
    assert all(left[site.name] == site for site in tied if site.name in needs)
    assert is_plan(whole, Milp().solve(whole).choice)


def test_the_parts_best_plan_is_the_wholes(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = Milp(gap=0.0)
    for limit in (0.3, 0.6, 1.0):
        tight = with_limits(problem, {"latency": limit * problem.limits["latency"]})
        monkeypatch.setattr(decomposition, "FEW", 1000)
        whole = solver.solve(tight)
        monkeypatch.setattr(decomposition, "FEW", 2)
        parts = solver.solve(tight)
        assert parts.feasible == whole.feasible
        assert plan_loss(tight, parts.choice) == pytest.approx(plan_loss(tight, whole.choice), rel=1e-6)
        assert parts.least == pytest.approx(whole.least)
        far = solver.solve(tight, (parts.choice,), 0.3)
        assert sum(far.choice[s] != c for s, c in parts.choice.items()) >= 0.3 * len(parts.choice) or not far.feasible
