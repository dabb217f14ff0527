"""What a SparseML recipe can say of a plan: layers with their zeros and precision, and how they are trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from paredown.models.compression.supernet import KEEP
from paredown.models.errors import InputError
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.recover import Recover

EVERY_EPOCH = 0.25
"""Epochs between two steps of the growing sparsity."""
SHOWN = 5
"""Names in a list that people are shown."""

Options = dict[str, Any]
"""A modifier's fields, as the recipe has them."""


@dataclass(frozen=True)
class TrainedPlan:
    """What a SparseML recipe says of a plan: its `layers` with weights, how it trains, and its method of pruning."""

    layers: Sequence[PlannedLayer]
    recover: Recover
    gradual: int
    method: str

    @property
    def pruned(self) -> list[PlannedLayer]:
        return [layer for layer in self.layers if layer.sparsity > 0]

    @property
    def int8(self) -> bool:
        return any(layer.bits == 8 for layer in self.layers)

    @property
    def floats(self) -> list[str]:
        return [layer.name for layer in self.layers if layer.bits != 8]

    @property
    def start(self) -> int:
        """The epoch in which int8 starts."""
        return self.recover.distil.epochs

    @property
    def end(self) -> int:
        return self.start + (self.recover.quantize.epochs if self.int8 else 0)


def refuse_changes(plan: Plan) -> None:
    narrow = [
        layer.name
        for layer in plan.layers
        if (layer.kept_in, layer.kept_out) != (layer.channels_in, layer.channels_out)
    ]
    blocks = [block.name for block in plan.blocks if block.picked != KEEP]
    for names, what in ((blocks, "replaces the blocks"), (narrow, "has fewer channels in the layers")):
        if names:
            raise InputError(
                f"the plan {what} {shown_names(names)}, which no SparseML recipe can say: it is not exported"
            )


def refuse_masks(layers: Sequence[PlannedLayer], style: str) -> None:
    """Masks that SparseML 1.8 has no working code for: tried, they end in errors or group other weights."""
    other = [layer.name for layer in layers if ":" in pattern_of(layer) and pattern_of(layer) != "2:4"]
    two = [layer.name for layer in layers if pattern_of(layer) == "2:4" and layer.op != "linear"]
    blocks = [layer.name for layer in layers if pattern_of(layer) == "block4"] if style == "stage" else []
    if other:
        raise InputError(
            f"of N:M SparseML has 2:4 only, the plan has others in {shown_names(other)}: it is not exported"
        )
    if two:
        raise InputError(
            f"SparseML prunes 2:4 in linear layers only, the plan does in {shown_names(two)}: it is not exported"
        )
    if blocks:
        raise InputError(
            f"SparseML has no block4 in stage style, the plan has in {shown_names(blocks)}: use --style epoch"
        )


def pattern_of(layer: PlannedLayer) -> str:
    return layer.pattern or "unstructured"


def shown_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def layers_by_level(layers: Iterable[PlannedLayer]) -> list[tuple[float, str, list[str]]]:
    """Levels with their patterns, and the layers that have them."""

    def kind(layer: PlannedLayer) -> tuple[float, str]:
        return layer.sparsity, pattern_of(layer)

    ordered = sorted(layers, key=kind)
    return [(*key, [layer.name for layer in group]) for key, group in groupby(ordered, kind)]


def ramp_epochs(trained: TrainedPlan) -> int:
    """Epochs in which sparsity reaches its level; SparseML's masks need one to be applied in."""
    return max(1, trained.gradual) if trained.pruned else 0


def int8_options(trained: TrainedPlan) -> Options:
    weights = {"num_bits": 8, "symmetric": True, "strategy": "channel"}
    scheme = {"input_activations": {"num_bits": 8, "symmetric": False}, "weights": weights}
    return {"scheme": scheme, "ignore": trained.floats, "freeze_bn_stats_epoch": float(trained.start)}
