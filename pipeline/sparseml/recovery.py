"""How a SparseML recipe trains, as the options of paredown's stage `recover`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paredown.pipeline.sparseml.modifiers import Modifier

_RATES = ("SetLearningRateModifier", "LearningRateFunctionModifier")
_LONGEST = 100_000


@dataclass(frozen=True)
class OptionValue:
    """An option's value, and what it came from."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Training:
    """Options of `recover` by their dotted names, in the order in which a recipe shows them, and notes."""

    options: dict[str, OptionValue]
    notes: list[str]


def training(modifiers: Sequence[Modifier]) -> Training:
    """Epochs, learning rates, weight decay and distillation.

    SparseML's epochs count from 0 to the end of its range; int8 starts in one of them. The epochs before it become the
    float phase `distil`, those after it the phase `quantize`.
    """
    notes: list[str] = []
    last, last_origin = _last(modifiers)
    start, start_origin = _int8_start(modifiers, last)
    distil, quantize = _whole(start), _whole(last) - _whole(start)
    options = dict[str, OptionValue]()
    ramp, ramp_origin = _ramp(modifiers, distil, notes)
    if ramp is not None:
        options["gradual"] = OptionValue(ramp, ramp_origin)
    options["distil.epochs"] = OptionValue(distil, start_origin or last_origin)
    if distil:
        options |= _rates("distil", modifiers, 0.0, start, notes)
    if start_origin:
        options["quantize.epochs"] = OptionValue(quantize, f"{last_origin}, less the epochs before int8")
        if quantize:
            options |= _rates("quantize", modifiers, start, last, notes)
    options |= _losses(modifiers, notes) if distil + quantize else {}
    if any(float(time) != _whole(time) for time in (last, start)):
        notes.append(f"{modifiers[0].document.file}:1: epochs {start:g} and {last:g} are rounded up to whole ones")
    return Training(options, notes)


def _whole(epochs: float) -> int:
    return math.ceil(epochs - 1e-9)


def _time(modifier: Modifier, key: str, default: float = -1.0) -> float:
    """An epoch; -1, SparseML's word for "from the beginning" or "to the end", stays."""
    return modifier.number(key, default, -1, _LONGEST)


def _start(modifier: Modifier) -> float:
    return max(0.0, _time(modifier, "start_epoch"))


def _at_most_one(modifiers: Sequence[Modifier], kind: str) -> list[Modifier]:
    matches = [m for m in modifiers if m.name.endswith(kind)]
    for other in matches[1:]:
        raise other.wrong("", f"follows another on line {matches[0].where().rpartition(':')[2]}; allowed: one")
    return matches


def _last(modifiers: Sequence[Modifier]) -> tuple[float, str]:
    """The last epoch: the range's own end where it is given, else the latest that a modifier names."""
    ranges = [m for m in modifiers if m.name == "EpochRangeModifier"]
    timed = [m for m in ranges or modifiers if not m.name.startswith("SparseGPT")]
    ends = [(max(_time(m, "end_epoch"), _start(m)), m) for m in timed]
    longest = max(ends, key=lambda end: end[0], default=None)
    if longest is None or not longest[0]:
        return 0.0, "the recipe trains for no epochs"
    key = "end_epoch" if longest[1].has("end_epoch") else "start_epoch"
    return longest[0], longest[1].origin(key)


def _int8_start(modifiers: Sequence[Modifier], last: float) -> tuple[float, str]:
    """When int8 starts, which is at the end where nothing is quantized (then with an empty origin)."""
    quantizing = _at_most_one(modifiers, "QuantizationModifier")
    if not quantizing:
        return last, ""
    (first,) = quantizing
    if _start(first) > last:
        raise first.wrong("start_epoch", f"is {_start(first):g}, after the last epoch {last:g}")
    return _start(first), first.origin("start_epoch")


def _ramp(modifiers: Sequence[Modifier], distil: int, notes: list[str]) -> tuple[int | None, str]:
    """Epochs over which sparsity grows; None where nothing is pruned."""
    growing = [m for m in modifiers if m.name in ("GMPruningModifier", "MagnitudePruningModifier")]
    if not growing:
        once = [m for m in modifiers if m.name in ("SparseGPTModifier", "ConstantPruningModifier")]
        return (0, f"{once[0].origin('')}: zeros are there before training") if once else (None, "")
    for m in growing:
        if _time(m, "end_epoch") != -1 and _time(m, "end_epoch") < _start(m):
            raise m.wrong("end_epoch", f"is {_time(m, 'end_epoch'):g}, before the start {_start(m):g}")
    spans = [max(0.0, _time(m, "end_epoch") - _start(m)) for m in growing]
    longest = spans.index(max(spans))
    if len(set(spans)) > 1:
        notes.append(
            f"{growing[longest].where('end_epoch')}: all layers are pruned over the longest of the recipe's spans"
        )
    if any(_start(m) > 0 for m in growing):
        notes.append(
            f"{growing[0].where('start_epoch')}: {growing[0].name} starts later; paredown prunes from the first epoch"
        )
    span = _whole(spans[longest])
    if span > distil:
        notes.append(f"{growing[longest].where('end_epoch')}: pruning ends with the float phase, after {distil} epochs")
    return min(span, distil), f"{growing[longest].origin('end_epoch')}, less the start"


def _rates(
    phase: str, modifiers: Sequence[Modifier], start: float, end: float, notes: list[str]
) -> dict[str, OptionValue]:
    """The highest learning rate of a phase, and its weight decay."""
    options = dict[str, OptionValue]()
    rates = sorted((m for m in modifiers if m.name in _RATES), key=_start)
    if rates:
        peak, origin = max((_highest(m, start, end), m.origin(_rate_key(m))) for m in _active(rates, start, end))
        if peak <= 0:
            raise rates[0].wrong(
                _rate_key(rates[0]), f"trains nothing over epochs {start:g} to {end:g}; allowed: above 0"
            )
        options[f"{phase}.lr"] = OptionValue(peak, origin)
    decays = sorted((m for m in modifiers if m.name == "SetWeightDecayModifier"), key=_start)
    if decays:
        last = _active(decays, start, end)[-1 if phase == "quantize" else 0]
        options[f"{phase}.weight_decay"] = OptionValue(
            last.number("weight_decay", None, 0), last.origin("weight_decay")
        )
    return options


def _active(ordered: Sequence[Modifier], start: float, end: float) -> list[Modifier]:
    """Of modifiers in order of their start: the one that counts at `start` and those that start before `end`."""
    before = [m for m in ordered if _start(m) <= start][-1:]
    return before + [m for m in ordered if start < _start(m) < end] or [ordered[0]]


def _rate_key(modifier: Modifier) -> str:
    return "learning_rate" if modifier.name == "SetLearningRateModifier" else "init_lr"


def _highest(modifier: Modifier, start: float, end: float) -> float:
    """The highest rate that a modifier sets between two epochs."""
    if modifier.name == "SetLearningRateModifier":
        return modifier.number("learning_rate", None, 0)
    function = modifier.get("lr_func")
    if function not in ("linear", "cosine", "cyclic_linear"):
        raise modifier.wrong("lr_func", f"is {function!r}; allowed: linear, cosine, cyclic_linear")
    first, final = modifier.number("init_lr", None, 0), modifier.number("final_lr", None, 0)
    opens, closes = _start(modifier), modifier.number("end_epoch", None, 0, _LONGEST)
    if closes <= opens:
        raise modifier.wrong("end_epoch", f"is {closes:g}; allowed: after the start {opens:g}")
    if function == "cyclic_linear":
        return max(first, final)
    shares = [min(1.0, max(0.0, (time - opens) / (closes - opens))) for time in (start, end)]
    bent = [0.5 - 0.5 * math.cos(math.pi * share) if function == "cosine" else share for share in shares]
    return max(first + (final - first) * share for share in bent)


def _losses(modifiers: Sequence[Modifier], notes: list[str]) -> dict[str, OptionValue]:
    """Weights of the losses; without a teacher in the recipe the labels are all there is."""
    for m in _at_most_one(modifiers, "DistillationModifier"):
        if m.name == "DistillationModifier":
            hard = m.number("hardness", 0.5, 0, 1)
            shares = {
                "logits": OptionValue(hard, m.origin("hardness")),
                "labels": OptionValue(round(1 - hard, 12), m.origin("hardness")),
            }
            soft = OptionValue(_temperature(m, "temperature", m.get("temperature", 2.0)), m.origin("temperature"))
            return {**shares, "features": _no_features(m), "temperature": soft}
        return _stage_losses(m, notes)
    origin = "the recipe distils nothing; paredown's own default is to distil from the original"
    return {
        "logits": OptionValue(0.0, origin),
        "labels": OptionValue(1.0, origin),
        "features": OptionValue(0.0, origin),
    }


def _stage_losses(modifier: Modifier, notes: list[str]) -> dict[str, OptionValue]:
    comparison = modifier.get("comparison", "kl_divergence")
    if comparison not in ("kl_divergence", "cross_entropy"):
        text = f"is {comparison!r}; allowed: kl_divergence, cross_entropy (answers of the model)"
        raise modifier.wrong("comparison", text)
    notes.append(
        f"{modifier.where('params')}: {modifier.name}.{modifier.spelled('params')}: the model's answers are compared"
    )
    options = {
        "logits": OptionValue(modifier.number("distill_scale", 1.0, 0), modifier.origin("distill_scale")),
        "labels": OptionValue(modifier.number("orig_scale", 1.0, 0), modifier.origin("orig_scale")),
        "features": _no_features(modifier),
    }
    for key in ("comparison_args", "transforms_args"):
        given = modifier.get(key, {})
        for part in given if isinstance(given, list) else [given]:
            if isinstance(part, dict) and "temperature" in part:
                options["temperature"] = OptionValue(
                    _temperature(modifier, key, part["temperature"]), modifier.origin(key)
                )
    return options


def _temperature(modifier: Modifier, key: str, value: Any) -> float:
    return modifier.checked(key, value, 1e-6)


def _no_features(modifier: Modifier) -> OptionValue:
    return OptionValue(0.0, f"{modifier.name} compares answers only; paredown can compare features too")
