"""Lowers plans to ONNX and measures them on the target, in turns with the baseline."""

import gzip
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto, NodeProto

from paredown.models.compression.conv_integer import INTEGER
from paredown.models.compression.qdq import quantizable_nodes
from paredown.models.errors import InputError
from paredown.models.onnx.edit import LEVEL, consumers, producers, save, stored_weights
from paredown.stages.analysis.plan_network import picks_by_name
from paredown.stages.base import State
from paredown.stages.measuring.model_files import SUFFIX
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import PlanSample
from paredown.stages.products.evidence import MIB, Evidence
from paredown.stages.runtimes.base import Load, Runtime, ratio
from paredown.stages.solvers.problem import Choice, Pick

LEAST = 0.2
"""Share of a node's profiled time that is its own in any case."""


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
        return runtime_of(self.state)

    @property
    def load(self) -> Load:
        return Load.of(self.state.target)

    @property
    def baseline(self) -> Path:
        return self.state.product("baseline") / "model.onnx"

    @property
    def baseline_ms(self) -> float:
        latency = Evidence.load(self.baseline.parent).latency
        assert latency is not None
        return latency.p50

    def lower(self, choice: Choice) -> ModelProto:
        """The plan as the runtime takes it."""
        return self.runtime.lower(self.space.lower(choice))

    @contextmanager
    def written(self, model: ModelProto) -> Iterator[Path]:
        """A file of the model, which is gone afterwards whatever happens."""
        save(model, self.file)
        try:
            yield self.file
        finally:
            self.file.unlink(missing_ok=True)

    def sample(self, choice: Choice, memory: bool = False, rounds: int | None = None) -> PlanSample:
        """A plan's measured costs; the latency is its ratio to the baseline, run in turns, times the baseline's p50."""
        with self.written(self.lower(choice)) as path:
            return self._sample(path, choice, memory, rounds or self.rounds)

    def _sample(self, path: Path, choice: Choice, memory: bool, rounds: int) -> PlanSample:
        both = self.runtime.latency([self.baseline, path], self.load, rounds, self.runs)
        peak = self.runtime.peak_memory(path, self.load) if memory else None
        return PlanSample(choice, ratio(both[1], both[0]) * self.baseline_ms, path.stat().st_size / MIB, peak)

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
        return self.state.out / f"plan.onnx{SUFFIX[self.state.target.container]}"

    def profiled(self, choice: Choice, memory: bool) -> tuple[PlanSample, dict[str, float]] | None:
        """A variant's costs, and the ms of every layer with what follows it in its block: in all, with what converts
        between precisions, the latency. None where the runtime cannot run it, unless it is the unchanged network."""
        model = self.lower(choice)
        try:
            with self.written(model) as path:
                sample = self._sample(path, choice, memory, self.rounds)
                times = self.runtime.node_times(path, self.load, self.runs)
        except InputError as error:
            if not choice:
                raise
            self._refuse(error)
            return None
        owned: dict[str, float] = {}
        for name, ms in settled(times, sample.latency).items():
            owner = _owner(model, name, picks_by_name(self.space.prepared))
            if owner:
                owned[owner] = owned.get(owner, 0.0) + ms
        return sample, owned


def packed_shares(model: ModelProto) -> dict[str, float]:
    """Bytes of a layer's packed weight over those of the weight itself."""
    stored = stored_weights(model).items()
    return {name: len(gzip.compress(value.tobytes(), LEVEL)) / value.nbytes for name, value in stored}


def settled(times: Mapping[str, float], latency: float) -> dict[str, float]:
    """A profile's times per node so that they sum to the latency that was measured without a profiler.

    What profiling adds is much the same for every node, so it is taken off each of them; taken off in proportion, it
    would make small layers look dear. No node keeps less than `LEAST` of its time. Where the sum is too small, as
    runtimes also spend time between nodes, all times grow in proportion.
    """
    whole = sum(times.values())
    if whole <= latency:
        return {name: ms * latency / max(whole, 1e-9) for name, ms in times.items()}
    low, high = 0.0, max(times.values())
    for _ in range(40):
        middle = (low + high) / 2
        rest = sum(max(ms - middle, LEAST * ms) for ms in times.values())
        low, high = (middle, high) if rest > latency else (low, middle)
    return {name: max(ms - high, LEAST * ms) for name, ms in times.items()}


def _owner(model: ModelProto, name: str, picks: Mapping[str, Pick]) -> str:
    """The layer that a node's time counts for: itself, or what it follows, or what reads it where it follows none, or
    only one in another block: what a block does to its input is there only with that block. Conversions count for no
    layer."""
    name = name.rpartition("@")[2]
    nodes = {node.name: node for node in model.graph.node}
    chosen = {*quantizable_nodes(model), *(node.name for node in model.graph.node if node.op_type in INTEGER)}
    before = _followed(model, name, nodes, chosen)
    if before and name in picks and picks.get(before) != picks[name]:
        behind = _reader(model, nodes[name], chosen)
        return behind if picks.get(behind) == picks[name] else before
    return before


def _followed(model: ModelProto, name: str, nodes: Mapping[str, NodeProto], chosen: Collection[str]) -> str:
    """The layer itself, or what it follows, or what reads it where it follows none."""
    made = producers(model)
    while name not in chosen:
        node = nodes.get(name)
        if node is None or node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.name.endswith(".guard"):
            return ""
        before = next((made[value] for value in node.input if value in made), None)
        while before is not None and before.op_type in ("QuantizeLinear", "DequantizeLinear"):
            before = next((made[value] for value in before.input if value in made), None)
        if before is None:
            return _reader(model, node, chosen)
        name = before.name
    return name


def _reader(model: ModelProto, node: NodeProto | None, chosen: Collection[str]) -> str:
    """The first layer behind a node."""
    readers = consumers(model)
    while node is not None and node.name not in chosen:
        node = next(iter(readers.get(node.output[0], [])), None)
    return node.name if node is not None else ""
