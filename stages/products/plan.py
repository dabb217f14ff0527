"""plan.json: the chosen candidate of every site, what they make of every layer, and how the search came to them."""

import math
from collections.abc import Mapping
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
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.loss_check import LossCheck

NOT_AN_ALTERNATIVE = math.nan
"""The `disturbance` of a plan that was not on the shortlist: its record has no such key."""
SEARCHED = (
    "limits",
    "margin",
    "baseline",
    "measured_plans",
    "front",
    "blocks",
    "least",
    "gap",
    "solve_seconds",
    "loss_check",
)
"""What only a search knows, and no plan that was given."""


@dataclass(frozen=True)
class SiteCandidates:
    """The names of a site's candidates, the unchanged one first, with the expected loss of each in nats."""

    name: str
    candidates: tuple[str, ...]
    losses: tuple[float, ...] = field(default=(), metadata=LEFT_OUT)


@dataclass(frozen=True)
class MeasuredPlanRecord:
    """A plan that the search measured: predicted and measured costs, and whether it held every limit.

    `disturbance` is what an alternative changes of the original's answers (KL, in nats); None where it missed a limit.
    """

    predicted: CostSummary
    measured: CostSummary
    loss: float
    holds: bool
    disturbance: float | None = field(default=NOT_AN_ALTERNATIVE, metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class PlannedLayer:
    """A layer before and under the plan: channels, bits of its weights, the share and pattern of its zeros, and its
    predicted ms in context, which are None in plans that were given."""

    name: str
    op: str
    module: str = ""
    depthwise: bool
    channels_in: int
    channels_out: int
    kept_in: int
    kept_out: int
    bits: int
    sparsity: float = 0.0
    pattern: str = ""
    baseline_ms: float | None = field(default=None, metadata=LEFT_OUT)
    ms: float | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class BlockCandidate:
    """What may stand in a block's place: its expected loss in nats, and bits ("32", "8") to its predicted ms."""

    name: str
    loss: float
    ms: Mapping[str, float]


@dataclass(frozen=True)
class PlannedBlock:
    """A block, the candidate that was picked for it, and all that it had; the block itself comes first."""

    name: str
    picked: str
    candidates: tuple[BlockCandidate, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan, as `choice` of a candidate for every site; `replayed` says that it was given, and nothing searched.

    `limits` are the search's, with its `margin` taken off; `least` is what can be reached at best of limits that no
    plan can hold, `gap` how far the plan is proved to be from the best predicted one, None without proof.
    `quantization` is what the engine of int8 says of itself. `predicted` is None where nothing was searched, `measured`
    where the plan could not be run, `loss_check` where no plan held the limits.
    """

    FILE: ClassVar[str] = "plan.json"

    choice: Mapping[str, str]
    predicted: CostSummary | None = None
    measured: CostSummary | None = None
    feasible: bool = True
    sites: tuple[SiteCandidates, ...] = ()
    layers: tuple[PlannedLayer, ...] = ()
    quantization: Mapping[str, Any] = field(default_factory=dict)
    replayed: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None
    baseline: Evidence | None = None
    measured_plans: tuple[MeasuredPlanRecord, ...] = ()
    front: tuple[CostSummary, ...] = ()
    blocks: tuple[PlannedBlock, ...] = ()
    least: Mapping[str, float] = field(default_factory=dict)
    gap: float | None = None
    solve_seconds: float | None = None
    loss_check: LossCheck | None = field(default=None, metadata=LEFT_OUT)

    def save(self, folder: Path) -> None:
        absent = SEARCHED if self.replayed else ("replayed",)
        document = {name: value for name, value in plain_data(self).items() if name not in absent}
        document["predicted"] = document["predicted"] or {}
        write_document(folder / self.FILE, document, indent=1, sort_keys=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        file = folder / cls.FILE
        document = read_object(file)
        return parse_dataclass(
            cls, {**document, "predicted": document.get("predicted") or None}, damage_complaint(file)
        )
