"""The product `profile`: the fitted cost model, the plans that it was fitted to, and what was offered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.stages.base import State
from paredown.stages.solvers.problem import Choice, Site
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.loading import profiled_transforms

Shares = Mapping[str, Mapping[str, float]]
"""Layer to kernel to a share."""


@dataclass(frozen=True)
class PlanSample:
    """A plan that was lowered and measured: ms (as a ratio times the baseline's p50), file MiB, peak MiB."""

    choice: Choice
    latency: float
    size: float
    peak_memory: float | None = None


@dataclass(frozen=True)
class CostProfile:
    """What was measured once: coefficients per layer and kernel (see `features` and `Form.kernel`), and the baseline.

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


def load_profile(state: State) -> tuple[CostProfile, tuple[Transform, ...]]:
    """The cost model, and the transforms that it was made for."""
    raw = json.loads((state.product("profile") / "profile.json").read_text())
    raw.pop("transforms")
    raw.pop("sites")
    raw["layers"] = {name: {k: tuple(c) for k, c in fits.items()} for name, fits in raw["layers"].items()}
    raw["samples"] = tuple(PlanSample(**sample) for sample in raw["samples"])
    raw["weights"] = tuple(raw["weights"])
    return CostProfile(**raw), profiled_transforms(state)


def offered(named: Mapping[str, Any], sites: Sequence[Site]) -> dict[str, Any]:
    """The part of `profile.json` that no clock decides: the transforms that take part, and the sites' candidates."""
    return {"transforms": named, "sites": {site.name: [c.name for c in site.candidates] for site in sites}}
