"""Candidates and limits to a plan: solved exactly, measured, corrected and solved again until it is true."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, ClassVar, cast

import torch
from pydantic import Field

from paredown.models.data import open_data
from paredown.models.spec import InputError, LimitError, Spec
from paredown.stages import cost, outline
from paredown.stages.base import State
from paredown.stages.budget import budgets, build
from paredown.stages.coefficients import Losses
from paredown.stages.correction import corrected, met
from paredown.stages.cost import Profile, Sample
from paredown.stages.discovery import make
from paredown.stages.evidence import Evidence
from paredown.stages.halving import halve
from paredown.stages.meter import Meter
from paredown.stages.problem import Problem, Solution, with_limits
from paredown.stages.profile import load_profile
from paredown.stages.sensitivity import Judge, load_losses
from paredown.stages.solvers.base import Solver
from paredown.stages.subject import load_subject

UNITS = {"latency": "ms", "size": "MiB", "memory": "MiB"}

IMAGES = 32
"""Validation images on which the whole shortlist is judged; each half of it that is left sees twice as many."""

CONFIRM = 3
"""Times as many rounds for a plan that seems to hold; docs/design-notes.md tells what that does to the noise."""


class Search(Spec):
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

    def run(self, state: State) -> None:
        subject, (profile, transforms) = load_subject(state), load_profile(state)
        baseline = Evidence.load(state.product("baseline") / "evidence.json")
        limits = budgets(state.limits, baseline, self.margin)
        solver = self.load_solver(state)
        hunt = Hunt(self, Meter(subject, transforms, state), solver, load_losses(state), limits)
        found = hunt.settle(profile)
        refusal = _refusal(found, limits)
        if not refusal:
            found = hunt.shortlist(found)
        problem = hunt.problem(found.profile)
        result = {
            "limits": limits,
            "margin": self.margin,
            "baseline": asdict(baseline),
            "sites": _sites(problem),
            "measured_plans": hunt.measured,
            "front": [] if refusal else hunt.front(found.profile, self.front),
            "layers": outline.layers(hunt.meter, found.profile, found.solution.choice),
            "blocks": outline.blocks(hunt.meter, found.profile, hunt.losses, found.solution.choice),
            **found.to_json(),
        }
        (state.out / "plan.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        if refusal:
            raise LimitError(refusal, keep=True)

    def load_solver(self, state: State) -> Solver:
        named = {self.solver: dict[str, Any]()} if isinstance(self.solver, str) else self.solver
        if len(named) != 1:
            raise InputError(f"search.solver names {len(named)} solvers ({', '.join(named)}); allowed: one")
        ((name, options),) = named.items()
        return cast(Solver, make("solvers", name, options, state.root))


@dataclass(frozen=True)
class Found:
    """A solved plan, what was predicted and what was measured of it, and the profile corrected by it."""

    profile: Profile
    solution: Solution
    sample: Sample | None
    holds: bool
    error: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "choice": dict(self.solution.choice),
            "predicted": {**_three(self.solution.costs), "loss": self.solution.loss},
            "measured": self.sample and _measured(self.sample),
            "feasible": self.solution.feasible,
            "least": dict(self.solution.least),
            "gap": self.solution.gap if math.isfinite(self.solution.gap) else None,
            "solve_seconds": self.solution.seconds,
        }


class Hunt:
    """The loop of solving and measuring, and the record of every plan that was measured."""

    def __init__(
        self, options: Search, meter: Meter, solver: Solver, losses: Losses, limits: Mapping[str, float]
    ) -> None:
        self.options, self.meter, self.solver = options, meter, solver
        self.losses, self.limits, self.measured = losses, limits, list[dict[str, Any]]()
        self.profiled = 0

    def problem(self, profile: Profile) -> Problem:
        return build(self.meter.subject, self.meter.transforms, profile, self.losses, self.limits)

    def settle(self, profile: Profile) -> Found:
        """Solve and measure until prediction and measurement agree on a plan that holds the limits.

        Of the plans that hold, the one of least loss is kept; there may be none when the rounds are used up.
        """
        best: Found | None = None
        self.profiled = len(profile.samples)
        for index in range(self.options.rounds):
            self.meter.state.progress("search: solve and measure", index, self.options.rounds)
            solution = self.solver.solve(self.problem(profile))
            if not solution.feasible:
                return best or Found(profile, solution, None, holds=False)
            found = self.measure(profile, solution)
            profile = found.profile
            if found.holds and (best is None or found.solution.loss < best.solution.loss):
                best = found
            if best is not None and found.error <= self.options.tolerance:
                break
        return replace(best, profile=profile) if best else found

    def measure(self, profile: Profile, solution: Solution) -> Found:
        """Measure a plan and correct the profile by it; one that seems to hold must hold in a second, longer sample.

        Of many plans measured briefly the lucky one looks best, so the sample that chose a plan cannot prove it.
        """
        sample = self.meter.sample(solution.choice, "memory" in self.limits)
        if self._holds(sample):
            sample = self.meter.sample(solution.choice, "memory" in self.limits, self.meter.rounds * CONFIRM)
        error, holds = abs(solution.costs["latency"] / sample.latency - 1), self._holds(sample)
        samples = (*profile.samples, sample)
        near = len(samples) - self.profiled
        at, subject, transforms = self.limits.get("latency", sample.latency), self.meter.subject, self.meter.transforms
        fixed = met(subject, transforms, corrected(subject, transforms, profile, samples, near, at), sample)
        record = {
            "predicted": _three(solution.costs),
            "measured": _measured(sample),
            "loss": solution.loss,
            "holds": holds,
        }
        self.measured.append(record)
        return Found(fixed, solution, sample, holds, error)

    def _holds(self, sample: Sample) -> bool:
        """Within every limit, with half of the margin still free."""
        margin, real = self.options.margin, _measured(sample)
        return all(real[name] <= limit / (1 - margin) * (1 - margin / 2) for name, limit in self.limits.items())

    def shortlist(self, first: Found) -> Found:
        """Plans far apart can be near in predicted loss: the one that really disturbs the network least wins."""
        found, problem = [first], self.problem(first.profile)
        for index in range(self.options.alternatives):
            self.meter.state.progress("search: alternatives", index, self.options.alternatives)
            solution = self.solver.solve(problem, tuple(f.solution.choice for f in found))
            if solution.feasible:
                found.append(self.measure(first.profile, solution))
        scores = halve([i for i, f in enumerate(found) if f.holds], self._disturbance(found), IMAGES)
        for index, record in zip(
            range(1, len(found)), self.measured[len(self.measured) - len(found) + 1 :], strict=True
        ):
            record["disturbance"] = scores.get(index)
        return found[next(reversed(scores))]

    def _disturbance(self, found: Sequence[Found]) -> Callable[[int, int], float]:
        """Of a plan by its place, on so many validation images: KL from the original, in nats."""
        state = self.meter.state
        data = open_data(state.data, state.root, state.cache, state.seed)

        @cache
        def judge(images: int) -> Judge:
            split = data.validation.take(images, state.seed)
            batch = torch.from_numpy(next(data.batches(split, len(split)))[0])
            return Judge(self.meter.subject, self.meter.transforms, batch)

        return lambda index, images: judge(images).loss(found[index].solution.choice)

    def front(self, profile: Profile, count: int) -> list[dict[str, float]]:
        """The least loss for a row of latency budgets, the other limits as they are."""
        problem, points = self.problem(profile), []
        whole = cost.predict(self.meter.subject, self.meter.transforms, profile, {})["latency"]
        others = {name: limit for name, limit in self.limits.items() if name != "latency"}
        for index in range(count):
            self.meter.state.progress("search: Pareto front", index, count)
            budget = whole * (0.2 + 0.8 * index / max(1, count - 1))
            solution = self.solver.solve(with_limits(problem, {**others, "latency": budget}))
            if solution.feasible:
                points.append({**_three(solution.costs), "loss": solution.loss})
        return points


def _three(costs: Mapping[str, float]) -> dict[str, float]:
    """Latency, size and the peak of the memory steps."""
    peak = max((value for name, value in costs.items() if name.startswith("memory@")), default=0.0)
    return {"latency": costs["latency"], "size": costs["size"], "memory": peak}


def _measured(sample: Sample) -> dict[str, float]:
    """The same of a sample; without memory where that was not measured."""
    memory = {} if sample.peak_memory is None else {"memory": sample.peak_memory}
    return {"latency": sample.latency, "size": sample.size, **memory}


def _impossible(solution: Solution, limits: Mapping[str, float]) -> str:
    if not solution.least:
        proof = "the solver found no plan that meets the limits, which proves nothing"
        return f"{proof}; the nearest plan reaches {_reached(solution, limits)}"
    parts = [
        f"{name} can reach {least:.3g} {UNITS[name]} at best, the limit leaves {limits[name]:.3g}"
        for name, least in solution.least.items()
    ]
    together = (
        ""
        if any(solution.least[n] > limits[n] for n in solution.least)
        else " (each alone can be met, together they cannot)"
    )
    reached = _reached(solution, limits)
    return f"no plan meets the limits: {'; '.join(parts)}{together}; the nearest plan reaches {reached}"


def _reached(solution: Solution, limits: Mapping[str, float]) -> str:
    nearest = _three(solution.costs)
    return ", ".join(f"{name} {nearest[name]:.3g} {UNITS[name]}" for name in limits)


def _refusal(found: Found, limits: Mapping[str, float]) -> str:
    """Why the search must end here; empty where a measured plan holds every limit."""
    if not found.solution.feasible:
        return _impossible(found.solution, limits)
    if found.holds:
        return ""
    assert found.sample is not None
    wanted = ", ".join(f"{name} {limit:.3g} {UNITS[name]}" for name, limit in limits.items())
    got = f"{found.sample.latency:.3g} ms and {found.sample.size:.3g} MiB"
    return f"no measured plan held every limit: the last one takes {got}, the limits leave {wanted}"


def _sites(problem: Problem) -> list[dict[str, Any]]:
    return [
        {
            "name": s.name,
            "candidates": [c.name for c in s.candidates],
            "losses": [c.loss for c in s.candidates],
        }
        for s in problem.sites
    ]


def load_choice(state: State) -> dict[str, str]:
    """The plan: site to candidate."""
    return cast(dict[str, str], json.loads((state.product("plan") / "plan.json").read_text())["choice"])


def load_layers(state: State) -> list[dict[str, Any]]:
    """What the plan makes of every layer, see `outline.layers`."""
    return cast(list[dict[str, Any]], json.loads((state.product("plan") / "plan.json").read_text())["layers"])


PLUGIN = Search
