"""profile.json: the fitted cost model, the plans that it was fitted to, the transforms, and what they offer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.stages.products.costs import CostSummary
from paredown.stages.products.documents import (
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
class PlanSample:
    """A plan that was lowered and measured: ms (as a ratio times the baseline's p50), file MiB, peak MiB."""

    choice: Choice
    latency: float
    size: float
    peak_memory: float | None = None

    @property
    def costs(self) -> CostSummary:
        """The measured costs; without memory where that was not measured."""
        return CostSummary(self.latency, self.size, self.peak_memory)


@dataclass(frozen=True)
class CostProfile:
    """What was measured once: coefficients per layer and kernel (see `layer_features` and
    `LayerForm.kernel`), and the baseline.

    Sparse layers have no kernel of their own where the runtime does not skip zeros: they take as long as dense ones.

    `weights` scale the latency terms; `size_offset` MiB and `memory_floor` MiB are what the model of bytes leaves out;
    `shares` per layer and kernel are of its bytes what a container leaves.
    """

    layers: Mapping[str, Mapping[str, tuple[float, ...]]]
    baseline_ms: float
    weights: tuple[float, ...]
    size_offset: float
    memory_floor: float
    memory_per_size: float
    shares: Shares = field(default_factory=dict)
    samples: tuple[PlanSample, ...] = field(default=())


@dataclass(frozen=True)
class ProfiledSites:
    """The transforms that took part, with their options and in the order in which they are applied; the candidates of
    every site that the search may decide; and the fitted `costs`, None where a lock gives the plan and nothing was
    timed."""

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
