"""A plan as a SparseML recipe in epoch style: modifiers with the epochs from and to which they work."""

from collections.abc import Sequence

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
from paredown.stages.recover import Recover


def epoch_style(trained: TrainedPlan) -> str:
    groups: dict[str, list[tuple[str, Options]]] = {
        "training_modifiers": _schedule(trained),
        "pruning_modifiers": [_gradual(trained, *level) for level in layers_by_level(trained.pruned)],
        "quantization_modifiers": _quantization(trained) if trained.int8 else [],
    }
    parts = [f"\n{name}:\n{''.join(map(_tagged, entries))}" for name, entries in groups.items() if entries]
    return "".join(parts)


def _tagged(entry: tuple[str, Options]) -> str:
    """`- !Name` with its options below it; SparseML does not read them on one line."""
    name, options = entry
    lines = yaml.safe_dump(options, sort_keys=False, width=10_000, allow_unicode=True).splitlines()
    return "\n".join([f"  - !{name}", *(f"    {line}" for line in lines)]) + "\n"


def _schedule(trained: TrainedPlan) -> list[tuple[str, Options]]:
    recover, phases = trained.recover, [(trained.recover.distil, 0, trained.start)]
    if trained.int8:
        phases.append((recover.quantize, trained.start, trained.end))
    entries: list[tuple[str, Options]] = [
        ("EpochRangeModifier", {"start_epoch": 0.0, "end_epoch": float(max(trained.end, ramp_epochs(trained)))})
    ]
    for schedule, start, end in phases:
        if start < end:
            times = {"start_epoch": float(start), "end_epoch": float(end)}
            rate = {"lr_func": "cosine", "init_lr": schedule.lr, "final_lr": 0.0}
            decay = {"start_epoch": float(start), "weight_decay": schedule.weight_decay}
            entries += [("LearningRateFunctionModifier", times | rate), ("SetWeightDecayModifier", decay)]
    if recover.logits > 0:
        options = {"hardness": _hardness(recover), "temperature": recover.temperature}
        entries.append(("DistillationModifier", {"start_epoch": 0.0, **options}))
    return entries


def _hardness(recover: Recover) -> float:
    return round(recover.logits / (recover.logits + recover.labels), 6)


def _gradual(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    steady = trained.gradual == 0 or pattern == "2:4"  # of N:M SparseML allows the one level only
    return "GMPruningModifier", {
        "init_sparsity": level if steady else 0.0,
        "final_sparsity": level,
        "start_epoch": 0.0,
        "end_epoch": float(ramp_epochs(trained)),
        "update_frequency": EVERY_EPOCH,
        "params": [f"{name}.weight" for name in names],
        "leave_enabled": True,
        "inter_func": "cubic",
        "mask_type": pattern,
    }


def _quantization(trained: TrainedPlan) -> list[tuple[str, Options]]:
    """Int8 for all but the float layers. SparseML ignores every module whose name starts like a given one."""
    int8 = [layer.name for layer in trained.layers if layer.bits == 8]
    for name in trained.floats:
        if caught := [other for other in int8 if other.startswith(name)]:
            text = f"ignoring {name} would leave {shown_names(caught)} in float too"
            raise InputError(f"SparseML ignores modules by the start of their names: {text}: it is not exported")
    return [("QuantizationModifier", {"start_epoch": float(trained.start), **int8_options(trained)})]
