"""profile.json: the plans that were measured, from which costs are learnt, the transforms, and what they offer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.stages.products.costs import CostSummary
from paredown.stages.products.documents import (
    LEFT_OUT,
    damage_complaint,
    parse_dataclass,
    plain_data,
    read_object,
    write_document,
)
from paredown.stages.solvers.problem import Choice, Site

Shares = Mapping[str, Mapping[str, float]]
"""Layer to kernel to a share."""


@dataclass(frozen=True)
class PlanTimes:
    """Where a plan's latency goes, by the runtime's profiler, scaled so that all of it is the latency (ms): by layer;
    by layer whose value is converted, as it is read in another precision; and what belongs to no layer."""

    layers: Mapping[str, float]
    conversions: Mapping[str, float]
    rest: float

    @property
    def total(self) -> float:
        """Ms of the whole plan."""
        return sum(self.layers.values()) + sum(self.conversions.values()) + self.rest


@dataclass(frozen=True)
class PlanSample:
    """A plan that was lowered and measured: ms (as a ratio times the baseline's p50), file MiB, peak MiB, and where the
    ms go."""

    choice: Choice
    latency: float
    size: float
    peak_memory: float | None = None
    times: PlanTimes | None = field(default=None, metadata=LEFT_OUT)

    @property
    def costs(self) -> CostSummary:
        """The measured costs; without memory where that was not measured."""
        return CostSummary(self.latency, self.size, self.peak_memory)


@dataclass(frozen=True)
class CostProfile:
    """What was measured of whole plans (`samples`), from which the costs of all others are learnt, and of the baseline.

    `layers` are all that any plan has, in order of depth. `size_offset` MiB and `memory_floor` MiB are what the model
    of bytes leaves out; `shares` per layer and kernel are of its bytes what a container leaves. Plans take
    `latency_scale` times as long as their parts: as a search last measured it.
    """

    layers: tuple[str, ...]
    baseline_ms: float
    size_offset: float
    memory_floor: float
    memory_per_size: float
    samples: tuple[PlanSample, ...]
    shares: Shares = field(default_factory=dict)
    latency_scale: float = 1.0

    __hash__ = object.__hash__  # what is learnt from a profile is remembered with it


@dataclass(frozen=True)
class ProfiledSites:
    """The transforms that took part, with their options and in the order in which they are applied; the candidates of
    every site that the search may decide; and what the `costs` are learnt from, None where a lock gives the plan and
    nothing was timed."""

    FILE: ClassVar[str] = "profile.json"

    transforms: Mapping[str, Mapping[str, Any]]
    sites: Mapping[str, tuple[str, ...]]
    costs: CostProfile | None = None

    def save(self, folder: Path) -> None:
        """The fields of the costs stand beside the others."""
        costs = plain_data(self.costs) if self.costs else {}
        document = {**costs, "transforms": plain_data(self.transforms), "sites": plain_data(self.sites)}
        write_document(folder / self.FILE, document, indent=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        file = folder / cls.FILE
        document = read_object(file)
        return parse_dataclass(
            cls, {**document, "costs": document if "layers" in document else None}, damage_complaint(file)
        )


def candidate_names(sites: Iterable[Site]) -> dict[str, tuple[str, ...]]:
    """Site to the names of its candidates."""
    return {site.name: tuple(candidate.name for candidate in site.candidates) for site in sites}
