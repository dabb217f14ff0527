"""Learning rates and weight decay of a SparseML recipe, as the options of one phase of paredown's `recover`."""

import math
from collections.abc import Sequence

from paredown.pipeline.sparseml.modifiers import LONGEST, OptionValue, SparsemlModifier

_RATES = ("SetLearningRateModifier", "LearningRateFunctionModifier")


def rates_and_decay(
    phase: str, modifiers: Sequence[SparsemlModifier], start: float, end: float
) -> dict[str, OptionValue]:
    """The options of a phase of `recover` that trains from epoch `start` to `end`: its highest learning rate, and its
    weight decay."""
    options = dict[str, OptionValue]()
    rates = sorted((m for m in modifiers if m.name in _RATES), key=lambda m: m.start)
    if rates:
        peak, origin = max((_highest(m, start, end), m.origin(_rate_key(m))) for m in _active(rates, start, end))
        if peak <= 0:
            raise rates[0].wrong(
                _rate_key(rates[0]), f"trains nothing over epochs {start:g} to {end:g}; allowed: above 0"
            )
        options[f"{phase}.lr"] = OptionValue(peak, origin)
    decays = sorted((m for m in modifiers if m.name == "SetWeightDecayModifier"), key=lambda m: m.start)
    if decays:
        last = _active(decays, start, end)[-1 if phase == "quantize" else 0]
        options[f"{phase}.weight_decay"] = OptionValue(
            last.number("weight_decay", None, 0), last.origin("weight_decay")
        )
    return options


def _active(ordered: Sequence[SparsemlModifier], start: float, end: float) -> list[SparsemlModifier]:
    """Of modifiers in order of their start: the one that counts at `start` and those that start before `end`."""
    before = [m for m in ordered if m.start <= start][-1:]
    return before + [m for m in ordered if start < m.start < end] or [ordered[0]]


def _rate_key(modifier: SparsemlModifier) -> str:
    return "learning_rate" if modifier.name == "SetLearningRateModifier" else "init_lr"


def _highest(modifier: SparsemlModifier, start: float, end: float) -> float:
    """The highest rate that a modifier sets between two epochs."""
    if modifier.name == "SetLearningRateModifier":
        return modifier.number("learning_rate", None, 0)
    function = modifier.get("lr_func")
    if function not in ("linear", "cosine", "cyclic_linear"):
        raise modifier.wrong("lr_func", f"is {function!r}; allowed: linear, cosine, cyclic_linear")
    first, final = modifier.number("init_lr", None, 0), modifier.number("final_lr", None, 0)
    opens, closes = modifier.start, modifier.number("end_epoch", None, 0, LONGEST)
    if closes <= opens:
        raise modifier.wrong("end_epoch", f"is {closes:g}; allowed: after the start {opens:g}")
    if function == "cyclic_linear":
        return max(first, final)
    shares = [min(1.0, max(0.0, (time - opens) / (closes - opens))) for time in (start, end)]
    bent = [0.5 - 0.5 * math.cos(math.pi * share) if function == "cosine" else share for share in shares]
    return max(first + (final - first) * share for share in bent)
