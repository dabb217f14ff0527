"""A plan under the limits: solved exactly, measured, the cost model corrected, solved again until both agree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from paredown.models.errors import InputError, LimitError
from paredown.models.quantity import told_apart
from paredown.stages.base import Stage, State
from paredown.stages.measuring.embedded_facts import metadata_room_mib
from paredown.stages.planning import plan_table
from paredown.stages.planning.extremes import extreme_plans
from paredown.stages.planning.loss_check import check_loss
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import search_limits
from paredown.stages.planning.search_loop import MeasuredPlan, SearchLoop, SearchOptions, cost_summary
from paredown.stages.plugins import make_named
from paredown.stages.products.cost_profile import candidate_names
from paredown.stages.products.costs import UNITS, CostSummary
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.plan import Plan, SiteCandidates
from paredown.stages.products.product_files import write_notes
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import Problem, Solution, validate_problem


class Search(Stage):
    """Picks one candidate for every site: the least expected loss under latency, size and memory at once."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "sensitivity")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "plan"
    reads: ClassVar[tuple[str, ...]] = ("data", "target", "limits", "seed")

    solver: str | dict[str, dict[str, Any]] = Field(
        "milp", description="name of a solver, or path/to/file.py; or that name with its options"
    )
    margin: float = Field(0.05, ge=0, lt=0.5, description="share of every limit that is kept free")
    tolerance: float = Field(0.05, gt=0, description="largest relative error of predicted against measured latency")
    rounds: int = Field(8, ge=1, description="times that a plan is measured and the problem solved again")
    alternatives: int = Field(
        1, ge=0, description="further plans, different in a tenth of the sites, that are measured and judged"
    )
    front: int = Field(8, ge=0, description="points of the Pareto front in the report")
    known: bool = Field(
        True, description="start from the best plan that `profile` measured, where one holds the limits"
    )

    def run(self, state: State) -> None:
        space, profile = load_plan_space(state), load_profile(state)
        baseline = Evidence.load(state.product("baseline"))
        reserved = metadata_room_mib(state.open_data().classes, candidate_names(space.sites).items())
        limits = search_limits(state.limits, baseline, self.margin, reserved)
        if state.limits.confidence is not None:
            limits = with_room_for_intervals(limits, self.margin)
        solver: Solver = make_named("solvers", self.solver, "search.solver", state.root)
        expected = ExpectedLosses.load(state.product("sensitivity"))
        losses = expected.losses
        loop = SearchLoop(self.loop_options(), PlanMeter(space, state), solver, losses, limits)
        best = loop.run(profile)
        refusal = _refusal(best, limits)
        if not refusal:
            best = loop.shortlist(best)
        problem = loop.problem(best.profile)
        solution = best.solution
        loss = expected.of_plan(solution.loss)
        check = None if refusal else check_loss(space, state, solution.choice, loss, expected)
        plan = Plan(
            choice=solution.choice,
            predicted=replace(cost_summary(solution.costs), loss=loss),
            measured=best.sample.costs if best.sample else None,
            feasible=solution.feasible,
            least=solution.least,
            gap=solution.gap if math.isfinite(solution.gap) else None,
            solve_seconds=solution.seconds,
            limits=limits,
            margin=self.margin,
            baseline=baseline,
            sites=_sites(problem),
            quantization=space.prepared.tuned.decisions,
            measured_plans=tuple(replace(one, loss=expected.of_plan(one.loss)) for one in loop.records),
            front=() if refusal else _expected_front(loop.front(best.profile, self.front), expected),
            layers=plan_table.planned_layers(space, best.profile, solution.choice),
            blocks=plan_table.planned_blocks(space, best.profile, losses, solution.choice),
            loss_check=check,
        )
        plan.save(state.out)
        write_notes(state.out, [*loop.meter.notes("search"), *([check.sentence()] if check and check.harsh else [])])
        if refusal:
            raise LimitError(refusal, keep=True)

    def rehearse(self, state: State) -> bool:
        """States the problem, and writes an extreme plan: the last one that the runtime can run."""
        space, profile = load_plan_space(state), load_profile(state)
        solver: Solver = make_named("solvers", self.solver, "search.solver", state.root)
        meter = PlanMeter(space, state, rounds=1, runs=1)
        losses = ExpectedLosses.load(state.product("sensitivity")).losses
        problem = SearchLoop(self.loop_options(), meter, solver, losses, {}).problem(profile)
        validate_problem(problem)
        plans = reversed(list(extreme_plans(space)))
        choice = next((plan for plan in plans if meter.attempt(plan)), None)
        if choice is None:
            raise InputError("; ".join(meter.notes("search")))
        Plan(
            replayed=True,
            choice=choice,
            sites=_sites(problem),
            quantization=space.prepared.tuned.decisions,
            layers=plan_table.planned_layers(space, profile, choice),
            blocks=plan_table.planned_blocks(space, profile, losses, choice),
        ).save(state.out)
        return True

    def loop_options(self) -> SearchOptions:
        """The options of the loop of solving and measuring."""
        return SearchOptions(self.margin, self.tolerance, self.rounds, self.alternatives, from_profile=self.known)


def _expected_front(points: Sequence[CostSummary], expected: ExpectedLosses) -> tuple[CostSummary, ...]:
    """Points whose losses are what plans are expected to lose, not the sums that were solved for."""
    return tuple(replace(point, loss=expected.of_plan(point.loss or 0.0)) for point in points)


def with_room_for_intervals(limits: Mapping[str, float], margin: float) -> dict[str, float]:
    """The limits of what is measured tightened so far that a plan which uses half of the margin up, as measured plans
    may, still has a whole margin free: where a limit must hold with the end of its interval, the half is the
    interval's. Sizes are exact."""
    return {name: limit if name == "size" else limit * (1 - margin / 2) for name, limit in limits.items()}


def _impossible(solution: Solution, limits: Mapping[str, float]) -> str:
    if not solution.least:
        proof = "the solver found no plan that meets the limits, which proves nothing"
        return f"{proof}; the nearest plan reaches {_reached(solution, limits)}"
    parts = []
    for name, least in solution.least.items():
        reach, limit = told_apart(least, limits[name], lambda value, digits: f"{value:.{digits}g}", digits=3)
        parts.append(f"{name} can reach {reach} {UNITS[name]} at best, the limit leaves {limit}")
    together = (
        ""
        if any(solution.least[n] > limits[n] for n in solution.least)
        else " (each alone can be met, together they cannot)"
    )
    reached = _reached(solution, limits)
    return f"no plan meets the limits: {'; '.join(parts)}{together}; the nearest plan reaches {reached}"


def _reached(solution: Solution, limits: Mapping[str, float]) -> str:
    nearest = cost_summary(solution.costs).named()
    return ", ".join(f"{name} {nearest[name]:.3g} {UNITS[name]}" for name in limits)


def _refusal(best: MeasuredPlan, limits: Mapping[str, float]) -> str:
    """Why the search must end here; empty where a measured plan holds every limit."""
    if not best.solution.feasible:
        return _impossible(best.solution, limits)
    if best.holds:
        return ""
    if best.sample is None:
        return "no plan that seemed to hold the limits could be run by the runtime"
    wanted = ", ".join(f"{name} {limit:.3g} {UNITS[name]}" for name, limit in limits.items())
    got = f"{best.sample.latency:.3g} ms and {best.sample.size:.3g} MiB"
    return f"no measured plan held every limit: the last one takes {got}, the limits leave {wanted}"


def _sites(problem: Problem) -> tuple[SiteCandidates, ...]:
    return tuple(
        SiteCandidates(s.name, tuple(c.name for c in s.candidates), tuple(c.loss for c in s.candidates))
        for s in problem.sites
    )


PLUGIN = Search
