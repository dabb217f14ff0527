"""How a SparseML recipe distils, as the weights of the losses of paredown's `recover`."""

from collections.abc import Sequence
from typing import Any

from paredown.pipeline.sparseml.modifiers import OptionValue, SparsemlModifier, at_most_one


def distillation_losses(modifiers: Sequence[SparsemlModifier], notes: list[str]) -> dict[str, OptionValue]:
    """Weights of the losses; without a teacher in the recipe the labels are all there is."""
    for m in at_most_one(modifiers, "DistillationModifier"):
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


def _stage_losses(modifier: SparsemlModifier, notes: list[str]) -> dict[str, OptionValue]:
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


def _temperature(modifier: SparsemlModifier, key: str, value: Any) -> float:
    return modifier.checked(key, value, 1e-6)


def _no_features(modifier: SparsemlModifier) -> OptionValue:
    return OptionValue(0.0, f"{modifier.name} compares answers only; paredown can compare features too")
