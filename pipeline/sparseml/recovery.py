"""How a SparseML recipe trains, as the options of paredown's stage `recover`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paredown.pipeline.sparseml.distillation import distillation_losses
from paredown.pipeline.sparseml.learning_rates import rates_and_decay
from paredown.pipeline.sparseml.modifiers import OptionValue, SparsemlModifier, at_most_one


@dataclass(frozen=True)
class ImportedTraining:
    """Options of `recover` by their dotted names, in the order in which a recipe shows them, and notes."""

    options: dict[str, OptionValue]
    notes: list[str]


def imported_training(modifiers: Sequence[SparsemlModifier]) -> ImportedTraining:
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
        options |= rates_and_decay("distil", modifiers, 0.0, start)
    if start_origin:
        options["quantize.epochs"] = OptionValue(quantize, f"{last_origin}, less the epochs before int8")
        if quantize:
            options |= rates_and_decay("quantize", modifiers, start, last)
    options |= distillation_losses(modifiers, notes) if distil + quantize else {}
    if any(float(time) != _whole(time) for time in (last, start)):
        notes.append(f"{modifiers[0].document.file}:1: epochs {start:g} and {last:g} are rounded up to whole ones")
    return ImportedTraining(options, notes)


def _whole(epochs: float) -> int:
    return math.ceil(epochs - 1e-9)


def _last(modifiers: Sequence[SparsemlModifier]) -> tuple[float, str]:
    """The last epoch: the range's own end where it is given, else the latest that a modifier names."""
    ranges = [m for m in modifiers if m.name == "EpochRangeModifier"]
    timed = [m for m in ranges or modifiers if not m.name.startswith("SparseGPT")]
    ends = [(max(m.epoch("end_epoch"), m.start), m) for m in timed]
    longest = max(ends, key=lambda end: end[0], default=None)
    if longest is None or not longest[0]:
        return 0.0, "the recipe trains for no epochs"
    key = "end_epoch" if longest[1].has("end_epoch") else "start_epoch"
    return longest[0], longest[1].origin(key)


def _int8_start(modifiers: Sequence[SparsemlModifier], last: float) -> tuple[float, str]:
    """When int8 starts, which is at the end where nothing is quantized (then with an empty origin)."""
    quantizing = at_most_one(modifiers, "QuantizationModifier")
    if not quantizing:
        return last, ""
    (first,) = quantizing
    if first.start > last:
        raise first.wrong("start_epoch", f"is {first.start:g}, after the last epoch {last:g}")
    return first.start, first.origin("start_epoch")


def _ramp(modifiers: Sequence[SparsemlModifier], distil: int, notes: list[str]) -> tuple[int | None, str]:
    """Epochs over which sparsity grows; None where nothing is pruned."""
    growing = [m for m in modifiers if m.name in ("GMPruningModifier", "MagnitudePruningModifier")]
    if not growing:
        once = [m for m in modifiers if m.name in ("SparseGPTModifier", "ConstantPruningModifier")]
        return (0, f"{once[0].origin('')}: zeros are there before training") if once else (None, "")
    for m in growing:
        if m.epoch("end_epoch") != -1 and m.epoch("end_epoch") < m.start:
            raise m.wrong("end_epoch", f"is {m.epoch('end_epoch'):g}, before the start {m.start:g}")
    spans = [max(0.0, m.epoch("end_epoch") - m.start) for m in growing]
    longest = spans.index(max(spans))
    if len(set(spans)) > 1:
        notes.append(
            f"{growing[longest].where('end_epoch')}: all layers are pruned over the longest of the recipe's spans"
        )
    if any(m.start > 0 for m in growing):
        notes.append(
            f"{growing[0].where('start_epoch')}: {growing[0].name} starts later; paredown prunes from the first epoch"
        )
    span = _whole(spans[longest])
    if span > distil:
        notes.append(f"{growing[longest].where('end_epoch')}: pruning ends with the float phase, after {distil} epochs")
    return min(span, distil), f"{growing[longest].origin('end_epoch')}, less the start"
