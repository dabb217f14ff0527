"""Writes the plan of a run as a SparseML recipe: levels and precisions layer by layer, and how it trains."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from paredown.models.compression.supernet import KEEP
from paredown.models.errors import InputError
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.plan_rows import read_plan
from paredown.pipeline.run.run_folder import as_damage
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.recover import Recover
from paredown.stages.transforms.loading import transform_of

_EVERY_EPOCH = 0.25
"""Epochs between two steps of the growing sparsity."""
_SHOWN = 5

Options = dict[str, Any]


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


def export_recipe(recipe: Recipe, file: Path, out: Path, style: str) -> tuple[str, tuple[str, ...]]:
    """The text of the SparseML recipe in a style, `epoch` or `stage`, and a line for what it cannot say.

    Raises InputError where the run has no plan, and where the plan changes what SparseML cannot: widths, blocks, and
    patterns that it has no working mask for.
    """
    plan = read_plan(out / recipe.name)
    if plan is None or not plan.layers:
        raise InputError(f"{out / recipe.name} holds no plan; make one with: paredown plan {file}")
    with as_damage(out / recipe.name):
        return _exported(recipe, file, plan, style)


def _exported(recipe: Recipe, file: Path, plan: Plan, style: str) -> tuple[str, tuple[str, ...]]:
    _refuse_changes(plan)
    trained = _trained(recipe, plan)
    _refuse_masks(trained.pruned, style)
    if not trained.pruned and not trained.int8:
        raise InputError(f"the plan of {file} neither prunes nor quantizes a layer: there is nothing to export")
    text = f"# The plan that paredown found for the recipe {recipe.name}.\n"
    return text + (_epoch_style(trained) if style == "epoch" else _stage_style(trained)), tuple(
        _notes(plan, trained, style)
    )


def _trained(recipe: Recipe, plan: Plan) -> TrainedPlan:
    stages = [step.stage for step in recipe.pipeline]
    recover = next((stage for stage in stages if isinstance(stage, Recover)), Recover())
    transforms = [stage.named_plugins().get("transforms", {}) for stage in stages]
    methods = [named["sparsify"].get("method", "obs") for named in transforms if "sparsify" in named]
    layers = [layer for layer in plan.layers if layer.op != "add"]
    return TrainedPlan(layers, recover, recover.gradual, next(iter(methods), "obs"))


def _refuse_changes(plan: Plan) -> None:
    narrow = [
        layer.name
        for layer in plan.layers
        if (layer.kept_in, layer.kept_out) != (layer.channels_in, layer.channels_out)
    ]
    blocks = [block.name for block in plan.blocks if block.picked != KEEP]
    for names, what in ((blocks, "replaces the blocks"), (narrow, "has fewer channels in the layers")):
        if names:
            raise InputError(f"the plan {what} {_shown(names)}, which no SparseML recipe can say: it is not exported")


def _refuse_masks(layers: Sequence[PlannedLayer], style: str) -> None:
    """Masks that SparseML 1.8 has no working code for: tried, they end in errors or group other weights."""
    other = [layer.name for layer in layers if ":" in _pattern(layer) and _pattern(layer) != "2:4"]
    two = [layer.name for layer in layers if _pattern(layer) == "2:4" and layer.op != "linear"]
    blocks = [layer.name for layer in layers if _pattern(layer) == "block4"] if style == "stage" else []
    if other:
        raise InputError(f"of N:M SparseML has 2:4 only, the plan has others in {_shown(other)}: it is not exported")
    if two:
        raise InputError(
            f"SparseML prunes 2:4 in linear layers only, the plan does in {_shown(two)}: it is not exported"
        )
    if blocks:
        raise InputError(f"SparseML has no block4 in stage style, the plan has in {_shown(blocks)}: use --style epoch")


def _pattern(layer: PlannedLayer) -> str:
    return layer.pattern or "unstructured"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _by_level(layers: Iterable[PlannedLayer]) -> list[tuple[float, str, list[str]]]:
    """Levels with their patterns, and the layers that have them."""

    def kind(layer: PlannedLayer) -> tuple[float, str]:
        return layer.sparsity, _pattern(layer)

    ordered = sorted(layers, key=kind)
    return [(*key, [layer.name for layer in group]) for key, group in groupby(ordered, kind)]


def _epoch_style(trained: TrainedPlan) -> str:
    groups: dict[str, list[tuple[str, Options]]] = {
        "training_modifiers": _schedule(trained),
        "pruning_modifiers": [_gradual(trained, *level) for level in _by_level(trained.pruned)],
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
        ("EpochRangeModifier", {"start_epoch": 0.0, "end_epoch": float(max(trained.end, _ramp(trained)))})
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


def _ramp(trained: TrainedPlan) -> int:
    """Epochs in which sparsity reaches its level; SparseML's masks need one to be applied in."""
    return max(1, trained.gradual) if trained.pruned else 0


def _gradual(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    steady = trained.gradual == 0 or pattern == "2:4"  # of N:M SparseML allows the one level only
    return "GMPruningModifier", {
        "init_sparsity": level if steady else 0.0,
        "final_sparsity": level,
        "start_epoch": 0.0,
        "end_epoch": float(_ramp(trained)),
        "update_frequency": _EVERY_EPOCH,
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
            text = f"ignoring {name} would leave {_shown(caught)} in float too"
            raise InputError(f"SparseML ignores modules by the start of their names: {text}: it is not exported")
    return [("QuantizationModifier", {"start_epoch": float(trained.start), **_int8(trained)})]


def _int8(trained: TrainedPlan) -> Options:
    weights = {"num_bits": 8, "symmetric": True, "strategy": "channel"}
    scheme = {"input_activations": {"num_bits": 8, "symmetric": False}, "weights": weights}
    return {"scheme": scheme, "ignore": trained.floats, "freeze_bn_stats_epoch": float(trained.start)}


def _stage_style(trained: TrainedPlan) -> str:
    once = trained.gradual == 0 and trained.method == "obs"
    write: Callable[..., tuple[str, Options]] = _one_shot if once else _stage_gradual
    groups: dict[str, tuple[str, Options]] = {}
    for level, pattern, names in _by_level(trained.pruned):
        groups[f"pruning_{pattern.replace(':', 'of')}_{level:g}_modifiers"] = write(trained, level, pattern, names)
    recover = trained.recover
    if trained.end and recover.logits > 0:
        groups["distillation_modifiers"] = _stage_distillation(trained)
    if trained.int8:
        name = "LegacyQuantizationModifier"
        groups["quantization_modifiers"] = (name, {"start": float(trained.start), **_int8(trained)})
    stage: dict[str, Any] = {"run_type": "train" if trained.end or not once else "oneshot"}
    stage |= {group: {name: options} for group, (name, options) in groups.items()}
    return "\n" + yaml.safe_dump({"paredown_stage": stage}, sort_keys=False, width=10_000, allow_unicode=True)


def _one_shot(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    structure = "2:4" if pattern == "2:4" else "0:0"
    return "SparseGPTModifier", {"sparsity": level, "mask_structure": structure, "targets": list(names)}


def _stage_gradual(trained: TrainedPlan, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    if pattern == "2:4":
        raise InputError(
            f"SparseML has no gradual 2:4 in stage style, the plan has in {_shown(names)}: use --style epoch"
        )
    return "MagnitudePruningModifier", {
        "start": 0.0,
        "end": float(_ramp(trained)),
        "update": _EVERY_EPOCH,
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


def _notes(plan: Plan, trained: TrainedPlan, style: str) -> Iterable[str]:
    """What the SparseML recipe leaves unsaid."""
    for site in plan.sites:
        side = plan.choice.get(site.name)
        if transform_of(site.name).FEATURE == "resize" and side != site.candidates[0]:
            yield f"the plan computes on images of {side} px: shrink them before training"
    if trained.end and trained.recover.features > 0:
        yield f"recover.features: {trained.recover.features:g} (SparseML compares answers only)"
    if trained.end:
        yield "recover.distil.ema, the warm-up of the learning rate and AdamW (they belong to your training script)"
        yield "recover.distil.batch (it belongs to your training script)"
    if trained.end and style == "stage":
        yield "learning rates and weight decay (stage style has no modifiers for them)"
    if trained.pruned and trained.method == "obs" and (style == "epoch" or trained.gradual):
        yield "sparsify.method: obs (written as magnitude pruning, to the same levels)"
