"""Writes the plan of a run as a SparseML recipe: levels and precisions layer by layer, and how it trains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from paredown.stages.recover import Recover

_EVERY_EPOCH = 0.25
"""Epochs between two steps of the growing sparsity."""
_RESIZE = "resize:input"
_SHOWN = 5

Options = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a run found: `layers` with weights (`name`, `op`, `bits`, `sparsity`, `pattern`), how it trains, and its
    method of pruning."""

    layers: Sequence[Mapping[str, Any]]
    recover: Recover
    gradual: int
    method: str

    @property
    def pruned(self) -> list[Mapping[str, Any]]:
        return [layer for layer in self.layers if layer.get("sparsity", 0.0) > 0]

    @property
    def int8(self) -> bool:
        return any(layer["bits"] == 8 for layer in self.layers)

    @property
    def floats(self) -> list[str]:
        return [layer["name"] for layer in self.layers if layer["bits"] != 8]

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
    if "layers" not in plan:
        raise InputError(f"{out / recipe.name} holds no plan; make one with: paredown plan {file}")
    with as_damage(out / recipe.name):
        return _exported(recipe, file, plan, style)


def _exported(recipe: Recipe, file: Path, plan: Mapping[str, Any], style: str) -> tuple[str, tuple[str, ...]]:
    _refuse_changes(plan)
    found = _found(recipe, plan)
    _refuse_masks(found.pruned, style)
    if not found.pruned and not found.int8:
        raise InputError(f"the plan of {file} neither prunes nor quantizes a layer: there is nothing to export")
    text = f"# The plan that paredown found for the recipe {recipe.name}.\n"
    return text + (_epoch_style(found) if style == "epoch" else _stage_style(found)), tuple(_notes(plan, found, style))


def _found(recipe: Recipe, plan: Mapping[str, Any]) -> Found:
    stages = [step.stage for step in recipe.pipeline]
    recover = next((stage for stage in stages if isinstance(stage, Recover)), Recover())
    transforms = [getattr(stage, "transforms", None) for stage in stages]
    methods = [named.get("sparsify", {}).get("method", "obs") for named in transforms if isinstance(named, dict)]
    layers = [layer for layer in plan["layers"] if layer["op"] != "add"]
    return Found(layers, recover, getattr(recover, "gradual", 0), next(iter(methods), "obs"))


def _refuse_changes(plan: Mapping[str, Any]) -> None:
    layers = plan["layers"]
    narrow = [la["name"] for la in layers if (la["kept_in"], la["kept_out"]) != (la["channels_in"], la["channels_out"])]
    blocks = [block["name"] for block in plan.get("blocks", ()) if block["picked"] != KEEP]
    for names, what in ((blocks, "replaces the blocks"), (narrow, "has fewer channels in the layers")):
        if names:
            raise InputError(f"the plan {what} {_shown(names)}, which no SparseML recipe can say: it is not exported")


def _refuse_masks(layers: Sequence[Mapping[str, Any]], style: str) -> None:
    """Masks that SparseML 1.8 has no working code for: tried, they end in errors or group other weights."""
    other = [la["name"] for la in layers if ":" in _pattern(la) and _pattern(la) != "2:4"]
    two = [la["name"] for la in layers if _pattern(la) == "2:4" and la["op"] != "linear"]
    blocks = [la["name"] for la in layers if _pattern(la) == "block4"] if style == "stage" else []
    if other:
        raise InputError(f"of N:M SparseML has 2:4 only, the plan has others in {_shown(other)}: it is not exported")
    if two:
        raise InputError(
            f"SparseML prunes 2:4 in linear layers only, the plan does in {_shown(two)}: it is not exported"
        )
    if blocks:
        raise InputError(f"SparseML has no block4 in stage style, the plan has in {_shown(blocks)}: use --style epoch")


def _pattern(layer: Mapping[str, Any]) -> str:
    return str(layer.get("pattern", "unstructured"))


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _by_level(layers: Iterable[Mapping[str, Any]]) -> list[tuple[float, str, list[str]]]:
    """Levels with their patterns, and the layers that have them."""

    def kind(layer: Mapping[str, Any]) -> tuple[float, str]:
        return float(layer["sparsity"]), _pattern(layer)

    ordered = sorted(layers, key=kind)
    return [(*key, [layer["name"] for layer in group]) for key, group in groupby(ordered, kind)]


def _epoch_style(found: Found) -> str:
    groups: dict[str, list[tuple[str, Options]]] = {
        "training_modifiers": _schedule(found),
        "pruning_modifiers": [_gradual(found, *level) for level in _by_level(found.pruned)],
        "quantization_modifiers": _quantization(found) if found.int8 else [],
    }
    parts = [f"\n{name}:\n{''.join(map(_tagged, entries))}" for name, entries in groups.items() if entries]
    return "".join(parts)


def _tagged(entry: tuple[str, Options]) -> str:
    """`- !Name` with its options below it; SparseML does not read them on one line."""
    name, options = entry
    lines = yaml.safe_dump(options, sort_keys=False, width=10_000, allow_unicode=True).splitlines()
    return "\n".join([f"  - !{name}", *(f"    {line}" for line in lines)]) + "\n"


def _schedule(found: Found) -> list[tuple[str, Options]]:
    recover, phases = found.recover, [(found.recover.distil, 0, found.start)]
    if found.int8:
        phases.append((recover.quantize, found.start, found.end))
    entries: list[tuple[str, Options]] = [
        ("EpochRangeModifier", {"start_epoch": 0.0, "end_epoch": float(max(found.end, _ramp(found)))})
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


def _ramp(found: Found) -> int:
    """Epochs in which sparsity reaches its level; SparseML's masks need one to be applied in."""
    return max(1, found.gradual) if found.pruned else 0


def _gradual(found: Found, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    steady = found.gradual == 0 or pattern == "2:4"  # of N:M SparseML allows the one level only
    return "GMPruningModifier", {
        "init_sparsity": level if steady else 0.0,
        "final_sparsity": level,
        "start_epoch": 0.0,
        "end_epoch": float(_ramp(found)),
        "update_frequency": _EVERY_EPOCH,
        "params": [f"{name}.weight" for name in names],
        "leave_enabled": True,
        "inter_func": "cubic",
        "mask_type": pattern,
    }


def _quantization(found: Found) -> list[tuple[str, Options]]:
    """Int8 for all but the float layers. SparseML ignores every module whose name starts like a given one."""
    int8 = [layer["name"] for layer in found.layers if layer["bits"] == 8]
    for name in found.floats:
        if caught := [other for other in int8 if other.startswith(name)]:
            text = f"ignoring {name} would leave {_shown(caught)} in float too"
            raise InputError(f"SparseML ignores modules by the start of their names: {text}: it is not exported")
    return [("QuantizationModifier", {"start_epoch": float(found.start), **_int8(found)})]


def _int8(found: Found) -> Options:
    weights = {"num_bits": 8, "symmetric": True, "strategy": "channel"}
    scheme = {"input_activations": {"num_bits": 8, "symmetric": False}, "weights": weights}
    return {"scheme": scheme, "ignore": found.floats, "freeze_bn_stats_epoch": float(found.start)}


def _stage_style(found: Found) -> str:
    once = found.gradual == 0 and found.method == "obs"
    write: Callable[..., tuple[str, Options]] = _one_shot if once else _stage_gradual
    groups: dict[str, tuple[str, Options]] = {}
    for level, pattern, names in _by_level(found.pruned):
        groups[f"pruning_{pattern.replace(':', 'of')}_{level:g}_modifiers"] = write(found, level, pattern, names)
    recover = found.recover
    if found.end and recover.logits > 0:
        groups["distillation_modifiers"] = _stage_distillation(found)
    if found.int8:
        name = "LegacyQuantizationModifier"
        groups["quantization_modifiers"] = (name, {"start": float(found.start), **_int8(found)})
    stage: dict[str, Any] = {"run_type": "train" if found.end or not once else "oneshot"}
    stage |= {group: {name: options} for group, (name, options) in groups.items()}
    return "\n" + yaml.safe_dump({"paredown_stage": stage}, sort_keys=False, width=10_000, allow_unicode=True)


def _one_shot(found: Found, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    structure = "2:4" if pattern == "2:4" else "0:0"
    return "SparseGPTModifier", {"sparsity": level, "mask_structure": structure, "targets": list(names)}


def _stage_gradual(found: Found, level: float, pattern: str, names: Sequence[str]) -> tuple[str, Options]:
    if pattern == "2:4":
        raise InputError(
            f"SparseML has no gradual 2:4 in stage style, the plan has in {_shown(names)}: use --style epoch"
        )
    return "MagnitudePruningModifier", {
        "start": 0.0,
        "end": float(_ramp(found)),
        "update": _EVERY_EPOCH,
        "init_sparsity": 0.0 if found.gradual else level,
        "final_sparsity": level,
        "update_scheduler": "cubic",
        "mask_structure": "unstructured",
        "leave_enabled": True,
        "targets": [f"{name}.weight" for name in names],
    }


def _stage_distillation(found: Found) -> tuple[str, Options]:
    """Compares the answers of the last layer, which is where a classifier gives them."""
    softened = {"temperature": found.recover.temperature}
    return "OutputDistillationModifier", {
        "start": 0.0,
        "end": float(found.end),
        "targets": [found.layers[-1]["name"]],
        "comparison": "kl_divergence",
        "comparison_args": softened,
        "orig_scale": found.recover.labels,
        "distill_scale": found.recover.logits,
    }


def _notes(plan: Mapping[str, Any], found: Found, style: str) -> Iterable[str]:
    """What the SparseML recipe leaves unsaid."""
    sides = next((site["candidates"] for site in plan.get("sites", ()) if site["name"] == _RESIZE), ())
    side = plan.get("choice", {}).get(_RESIZE)
    if sides and side != sides[0]:
        yield f"the plan computes on images of {side} px: shrink them before training"
    if found.end and found.recover.features > 0:
        yield f"recover.features: {found.recover.features:g} (SparseML compares answers only)"
    if found.end:
        yield "recover.distil.ema, the warm-up of the learning rate and AdamW (they belong to your training script)"
        yield "recover.distil.batch (it belongs to your training script)"
    if found.end and style == "stage":
        yield "learning rates and weight decay (stage style has no modifiers for them)"
    if found.pruned and found.method == "obs" and (style == "epoch" or found.gradual):
        yield "sparsify.method: obs (written as magnitude pruning, to the same levels)"
