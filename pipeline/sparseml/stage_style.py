"""A plan as a SparseML recipe in stage style: one stage with all modifiers, as its one-shot runs read it."""

from collections.abc import Callable, Sequence
from typing import Any

import yaml

from paredown.models.errors import InputError
from paredown.pipeline.sparseml.trained_plan import (
    EVERY_EPOCH,
    Options,
    TrainedPlan,
    int8_options,
    layers_by_level,
    ramp_epochs,
    shown_names,
)


def stage_style(trained: TrainedPlan) -> str:
    once = trained.gradual == 0 and trained.method == "obs"
    write: Callable[..., tuple[str, Options]] = _one_shot if once else _stage_gradual
    groups: dict[str, tuple[str, Options]] = {}
    for level, pattern, names in layers_by_level(trained.pruned):
        groups[f"pruning_{pattern.replace(':', 'of')}_{level:g}_modifiers"] = write(trained, level, pattern, names)
    recover = trained.recover
    if trained.end and recover.logits > 0:
        groups["distillation_modifiers"] = _stage_distillation(trained)
    if trained.int8:
        name = "LegacyQuantizationModifier"
        groups["quantization_modifiers"] = (name, {"start": float(trained.start), **int8_options(trained)})
    stage: dict[str, Any] = {"run_type": "train" if trained.end or not once else "oneshot"}
    stage |= {group: {name: options} for group, (name, options) in groups.items()}
    return "\n" + yaml.safe_dump({"paredown_stage": stage}, sort_keys=False, width=10_000, allow_unicode=True)


def _one_shot(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    structure = "2:4" if pattern == "2:4" else "0:0"
    return "SparseGPTModifier", {"sparsity": level, "mask_structure": structure, "targets": list(names)}


def _stage_gradual(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    if pattern == "2:4":
        raise InputError(
            f"SparseML has no gradual 2:4 in stage style, the plan has in {shown_names(names)}: use --style epoch"
        )
    return "MagnitudePruningModifier", {
        "start": 0.0,
        "end": float(ramp_epochs(trained)),
        "update": EVERY_EPOCH,
        "init_sparsity": 0.0 if trained.gradual else level,
        "final_sparsity": level,
        "update_scheduler": "cubic",
        "mask_structure": "unstructured",
        "leave_enabled": True,
        "targets": [f"{name}.weight" for name in names],
    }


def _stage_distillation(trained: TrainedPlan) -> tuple[str, Options]:
    """Compares the answers of the last layer, which is where a classifier gives them."""
    softened = {"temperature": trained.recover.temperature}
    return "OutputDistillationModifier", {
        "start": 0.0,
        "end": float(trained.end),
        "targets": [trained.layers[-1].name],
        "comparison": "kl_divergence",
        "comparison_args": softened,
        "orig_scale": trained.recover.labels,
        "distill_scale": trained.recover.logits,
    }
