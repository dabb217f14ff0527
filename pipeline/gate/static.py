"""Checks of what can be read from the files: the same on every machine, and always hard."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from paredown.models.onnx_facts import Facts, LayerFacts
from paredown.models.spec import InputError
from paredown.pipeline.gate.amounts import amount
from paredown.pipeline.gate.budgets import Budgets, Limit
from paredown.pipeline.gate.checks import Check
from paredown.pipeline.gate.layers import grown

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


def static_checks(budgets: Budgets, model: Facts, baseline: Facts | None) -> Iterator[Check]:
    """One check per deterministic limit."""
    for name, limit in budgets.limits():
        if name in MEASURES:
            yield _counted(name, limit, model, baseline)
    for op, limit in budgets.ops.items():
        found = [layer for layer in model.layers if layer.op == op]
        before = float(baseline.ops.get(op, 0)) if baseline else None
        yield exact(f"ops {op}", limit, "", before, len(found), [str(layer) for layer in found])
    if budgets.operators is not None:
        yield _allowed(budgets.operators, model)


def exact(name: str, limit: Limit, unit: str, before: float | None, after: float, layers: Sequence[str]) -> Check:
    """A value without any doubt against its limit; `layers` are named where it is over."""
    allowed = limit.value if limit.unit != "x" else limit.value * (before or 0.0)
    holds = after <= allowed * (1 + 1e-12)  # a factor is rounded, bytes and counts are not
    over = f"{amount(after, unit)} is {amount(after - allowed, unit)} over its limit of {amount(allowed, unit)}"
    return Check(
        name,
        "deterministic",
        str(limit),
        unit,
        before,
        after,
        allowed,
        "pass" if holds else "fail",
        "" if holds else over,
        () if holds else shortened(layers),
    )


def shortened(layers: Sequence[str]) -> tuple[str, ...]:
    """The first of them, and how many there are besides."""
    rest = len(layers) - NAMED
    return (*layers[:NAMED], f"and {rest} more") if rest > 0 else tuple(layers)


def _counted(name: str, limit: Limit, model: Facts, baseline: Facts | None) -> Check:
    before, after = _value(baseline, name) if baseline else None, _value(model, name)
    if after is None or (limit.unit == "x" and before is None):
        raise InputError(f"budgets.{name}: the shapes in the model are not fixed, so its {name} cannot be told")
    unit = "B" if name == "bytes" else ""
    return exact(name, limit, unit, before, after, _responsible(name, unit, model, baseline))


def _value(facts: Facts, name: str) -> float | None:
    found = len(facts.unquantized) if name == "unquantized" else getattr(facts, name)
    return None if found is None else float(found)


def _responsible(name: str, unit: str, model: Facts, baseline: Facts | None) -> list[str]:
    """What grew since the baseline, or where most of it is."""
    measure = MEASURES[name]
    if name == "unquantized":
        before = {layer.name for layer in baseline.unquantized} if baseline else set[str]()
        return [str(layer) for layer in model.unquantized if layer.name not in before]
    if baseline:
        return [f"{layer} +{amount(more, unit)}" for layer, more in grown(model, baseline, measure)]
    largest = sorted((layer for layer in model.layers if measure(layer)), key=measure, reverse=True)
    return [f"{layer} {amount(measure(layer), unit)}" for layer in largest]


def _allowed(operators: Sequence[str], model: Facts) -> Check:
    strange = [layer for layer in model.layers if not _known(layer.op, operators)]
    kinds = sorted({layer.op for layer in strange})
    return Check(
        "operators",
        "deterministic",
        ", ".join(operators),
        "",
        None,
        len(kinds),
        0,
        "fail" if strange else "pass",
        f"not allowed: {', '.join(kinds)}" if strange else "",
        shortened([str(layer) for layer in strange]),
    )


def _known(op: str, operators: Sequence[str]) -> bool:
    return op in operators or (STANDARD in operators and "::" not in op)
