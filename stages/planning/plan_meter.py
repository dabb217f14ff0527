"""Lowers plans to ONNX and measures them on the target, in turns with the baseline."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto

from paredown.models.errors import InputError
from paredown.models.onnx.edit import LEVEL, save_onnx, stored_weights
from paredown.stages.analysis.plan_network import picks_by_name
from paredown.stages.base import State
from paredown.stages.measuring.model_files import SUFFIX
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.planning.layer_times import plan_times
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import PlanSample
from paredown.stages.products.evidence import MIB, Evidence
from paredown.stages.runtimes.base import Load, Runtime, latency_ratio
from paredown.stages.solvers.problem import Choice

PROFILED = 3
"""Sessions of a plan that are profiled."""


@dataclass(frozen=True)
class PlanMeter:
    """Lowers the plans of a space to ONNX and measures them against the baseline.

    `refusals` gets a line for every plan that the runtime could not run: engines have bugs that one plan in many meets.
    """

    space: PlanSpace
    state: State
    rounds: int = 9
    runs: int = 12
    refusals: list[str] = field(default_factory=list)

    @property
    def runtime(self) -> Runtime:
        """The target's."""
        return runtime_of(self.state)

    @property
    def load(self) -> Load:
        """The target's threads and batch."""
        return Load.of(self.state.target)

    @property
    def timed_runs(self) -> int:
        """Runs of a session: half as many with cold caches, where each costs what is read before it."""
        return max(1, self.runs // 2) if self.load.caches == "cold" else self.runs

    @property
    def baseline(self) -> Path:
        """The original's file, as the target's runtime takes it."""
        return self.state.product("baseline") / "model.onnx"

    @property
    def baseline_ms(self) -> float:
        """The original's p50 as the stage `baseline` measured it."""
        latency = Evidence.load(self.baseline.parent).latency
        assert latency is not None
        return latency.p50

    def lower(self, choice: Choice) -> ModelProto:
        """The plan as the runtime takes it."""
        return self.runtime.lower(self.space.lower(choice))

    @contextmanager
    def written(self, model: ModelProto) -> Iterator[Path]:
        """A file of the model, which is gone afterwards whatever happens."""
        save_onnx(model, self.file)
        try:
            yield self.file
        finally:
            self.file.unlink(missing_ok=True)

    def sample(self, choice: Choice, memory: bool = False, rounds: int | None = None) -> PlanSample:
        """A plan's measured costs, and where its ms go; the latency is its ratio to the baseline, run in turns, times
        the baseline's p50."""
        model = self.lower(choice)
        with self.written(model) as path:
            both = self.runtime.latency([self.baseline, path], self.load, rounds or self.rounds, self.timed_runs)
            peak = self.runtime.peak_memory(path, self.load) if memory else None
            latency, size = latency_ratio(both[1], both[0]) * self.baseline_ms, path.stat().st_size / MIB
            times = plan_times(model, self._node_times(path), latency, picks_by_name(self.space.prepared))
        return PlanSample(choice, latency, size, peak, times)

    def _node_times(self, path: Path) -> dict[str, float]:
        """Ms per executed node: the mean of a few sessions, which differ by where their memory lies."""
        sessions = [
            self.runtime.node_times(path, self.load, self.timed_runs) for _ in range(min(PROFILED, self.rounds))
        ]
        names = dict.fromkeys(name for one in sessions for name in one)
        return {name: sum(one.get(name, 0.0) for one in sessions) / len(sessions) for name in names}

    def attempt(self, choice: Choice, memory: bool = False, rounds: int | None = None) -> PlanSample | None:
        """The same; None, and a line in `refusals`, where the runtime cannot run the plan."""
        try:
            return self.sample(choice, memory, rounds)
        except InputError as error:
            self._refuse(error)
            return None

    def _refuse(self, error: InputError) -> None:
        self.refusals.append(str(error).partition(f"{self.file}: ")[2] or str(error))

    def notes(self, stage: str) -> list[str]:
        """The refusals in one line, for people."""
        if not self.refusals:
            return []
        count, them = (f"{len(self.refusals)} plans", "them") if self.refusals[1:] else ("1 plan", "it")
        return [f"{stage}: {count} left out, as the runtime could not run {them}: {self.refusals[0]}"]

    @property
    def file(self) -> Path:
        """Where a plan is written while it is measured."""
        return self.state.out / f"plan.onnx{SUFFIX[self.state.target.container]}"


def packed_shares(model: ModelProto) -> dict[str, float]:
    """Bytes of a layer's packed weight over those of the weight itself."""
    stored = stored_weights(model).items()
    return {name: len(gzip.compress(value.tobytes(), LEVEL)) / value.nbytes for name, value in stored}
