"""Checks of what can be read from the files: never inconclusive, and the same on every machine; only how many nodes
compute in float goes by the kernels of this kind of CPU."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from paredown.models.errors import InputError
from paredown.models.onnx.facts import LayerFacts, ModelFacts
from paredown.pipeline.gate.amounts import amounts_told_apart, readable_amount
from paredown.pipeline.gate.budgets import Budgets, Limit
from paredown.pipeline.gate.layer_pairs import layers_that_grew
from paredown.pipeline.gate.outcome import BudgetCheck

NAMED = 5
"""Layers that a message names; `--why` lists them all."""
STANDARD = "standard"
"""Stands for all of ONNX's own operators."""

MEASURES: Mapping[str, Callable[[LayerFacts], float]] = {
    "bytes": lambda layer: layer.bytes,
    "parameters": lambda layer: layer.parameters,
    "macs": lambda layer: layer.macs or 0,
    "unquantized": lambda layer: layer.precision == "fp32",
    "opset": lambda _: 0,
}
"""Budget to what a layer adds to it."""


def static_checks(budgets: Budgets, model: ModelFacts, baseline: ModelFacts | None) -> Iterator[BudgetCheck]:
    """One check per deterministic limit."""
    for name, limit in budgets.limits():
        if name in MEASURES:
            yield _budget_check(name, limit, model, baseline)
    for op, limit in budgets.ops.items():
        before = float(baseline.ops.get(op, 0)) if baseline else None
        layers = _layers_with_more(partial(_has_operator, op), None, model, baseline)
        yield count_check(f"ops {op}", limit, "", before, model.ops.get(op, 0), layers)
    if budgets.operators is not None:
        yield _operators_check(budgets.operators, model)


def count_check(
    name: str, limit: Limit, unit: str, before: float | None, after: float, layers: Sequence[str]
) -> BudgetCheck:
    """A value that was counted, not measured, against its limit; `layers` are named where it is over."""
    allowed = limit.value if limit.unit != "x" else limit.value * (before or 0.0)
    holds = after <= allowed * (1 + 1e-12)  # a factor is rounded, bytes and counts are not
    value, most = amounts_told_apart(unit, after, allowed)
    over = f"{value} is {readable_amount(after - allowed, unit)} over its limit of {most}"
    return BudgetCheck(
        name,
        "deterministic",
        str(limit),
        unit,
        before,
        after,
        allowed,
        "pass" if holds else "fail",
        "" if holds else over,
        () if holds else shortened_list(layers),
    )


def shortened_list(layers: Sequence[str]) -> tuple[str, ...]:
    """The first five layers, and `and 7 more` for the rest."""
    rest = len(layers) - NAMED
    return (*layers[:NAMED], f"and {rest} more") if rest > 0 else tuple(layers)


def _budget_check(name: str, limit: Limit, model: ModelFacts, baseline: ModelFacts | None) -> BudgetCheck:
    before, after = _value(baseline, name) if baseline else None, _value(model, name)
    unit, one_each = "B" if name == "bytes" else "", name == "unquantized"
    layers = _layers_with_more(MEASURES[name], None if one_each else unit, model, baseline)
    check = count_check(name, limit, unit, before, after, layers)
    reasons = float_reasons(model) if one_each and check.verdict == "fail" else ""
    return replace(check, because=f"{check.because}; {reasons}") if reasons else check


def float_reasons(model: ModelFacts) -> str:
    """Why nodes with rounded values are computed in float, with how many there are of each; empty where none are."""
    counts = Counter(layer.why for layer in model.unquantized if layer.why)
    listed = ", ".join(f"{why} ({count})" for why, count in counts.most_common())
    return f"rounded, and yet computed in float on this CPU: {listed}" if listed else ""


def _value(facts: ModelFacts, name: str) -> float:
    value = len(facts.unquantized) if name == "unquantized" else getattr(facts, name)
    if value is None:
        where = next(layer for layer in facts.layers if layer.macs is None)
        raise InputError(f"budgets.{name} cannot be told: the shapes at {where} are not known before it runs")
    return float(value)


def _has_operator(op: str, layer: LayerFacts) -> bool:
    return layer.op == op


def _layers_with_more(
    measure: Callable[[LayerFacts], float], unit: str | None, model: ModelFacts, baseline: ModelFacts | None
) -> list[str]:
    """Layers with more of a measure than in the baseline, or without a baseline all that have some, most first. Each is
    followed by how much in `unit`; with `unit` None it is one each, and not written."""
    if baseline:
        layers = layers_that_grew(model, baseline, measure)
    else:
        layers = [(str(layer), float(measure(layer))) for layer in model.layers if measure(layer)]
    sign = "+" if baseline else ""
    ordered = sorted(layers, key=lambda one: -one[1])
    return [layer if unit is None else f"{layer} {sign}{readable_amount(more, unit)}" for layer, more in ordered]


def _operators_check(operators: Sequence[str], model: ModelFacts) -> BudgetCheck:
    refused = [layer for layer in model.layers if not _is_allowed(layer.op, operators)]
    kinds = sorted({layer.op for layer in refused})
    return BudgetCheck(
        "operators",
        "deterministic",
        ", ".join(operators),
        "",
        None,
        len(kinds),
        0,
        "fail" if refused else "pass",
        f"not allowed: {', '.join(kinds)}" if refused else "",
        shortened_list([str(layer) for layer in refused]),
    )


def _is_allowed(op: str, operators: Sequence[str]) -> bool:
    return op in operators or (STANDARD in operators and "::" not in op)
