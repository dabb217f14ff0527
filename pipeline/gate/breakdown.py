"""Where the bytes and the milliseconds of a model are, per operator and per layer, beside its baseline's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.models.onnx.facts import ModelFacts
from paredown.pipeline.gate.layer_pairs import Pair, paired_layers
from paredown.pipeline.gate.outcome import OutcomeTable

TOP = 15
"""Rows of a table, before the one for the rest."""
REST_OF_FILE = "(rest of the file)"

Times = Mapping[str, Mapping[str, float]]
"""`model` and `baseline` to a node's name to its ms."""


@dataclass(frozen=True)
class BreakdownEntry:
    """What a layer has in the model and in the baseline, None where it is not there, and its operator in both."""

    name: str
    after: float | None
    before: float | None
    operator: str
    operator_before: str


def breakdown(model: ModelFacts, baseline: ModelFacts | None, times: Times | None) -> tuple[OutcomeTable, ...]:
    """Bytes per operator and layer, and milliseconds where there are times; the largest first, then a row for the rest.

    The bytes add up to the file's, the milliseconds to all that the runtime's profile has.
    """
    pairs = paired_layers(model, baseline) if baseline else [(layer, None) for layer in model.layers]
    tables = list(_tables("bytes", list(_sized_entries(pairs, model, baseline)), baseline is not None))
    if times and times.get("model"):
        tables += _tables(
            "ms", list(_timed_entries(pairs, times)), baseline is not None and bool(times.get("baseline"))
        )
    return tuple(tables)


def _timed_entries(pairs: Sequence[Pair], times: Times) -> Iterator[BreakdownEntry]:
    """Milliseconds of every layer that has some, and of what the runtime inserted or calls otherwise."""
    after, before = dict(times.get("model", {})), dict(times.get("baseline", {}))
    for pair in pairs:
        layer, old = pair
        yield _entry(pair, after.pop(layer.name, None) if layer else None, before.pop(old.name, None) if old else None)
    renamed = {old.name: layer.name for layer, old in pairs if layer and old}
    before = {_moved(name, renamed): ms for name, ms in before.items()}
    for name in dict.fromkeys([*after, *before]):
        operator, _, node = name.removeprefix("+").partition("@")
        kind = f"{operator} (inserted)" if name.startswith("+") else "(other)"
        inserted = f"{kind} for {node}" if node else kind
        yield BreakdownEntry(inserted if name.startswith("+") else name, after.get(name), before.get(name), kind, kind)


def _moved(name: str, renamed: Mapping[str, str]) -> str:
    """What the baseline's runtime inserted for a node, under the node's name in the model."""
    operator, at, node = name.partition("@")
    return f"{operator}@{renamed.get(node, node)}" if at and name.startswith("+") else name


def _sized_entries(pairs: Sequence[Pair], model: ModelFacts, baseline: ModelFacts | None) -> Iterator[BreakdownEntry]:
    """Bytes of every layer, and of the rest of the file (names, the graph), which is below zero in a packed file."""
    for layer, old in pairs:
        yield _entry((layer, old), layer.bytes if layer else None, old.bytes if old else None)
    after, before = _rest(model), _rest(baseline) if baseline else None
    yield BreakdownEntry(REST_OF_FILE, after, before, REST_OF_FILE, REST_OF_FILE)


def _rest(facts: ModelFacts) -> float:
    return facts.bytes - sum(layer.bytes for layer in facts.layers)


def _entry(pair: Pair, after: float | None, before: float | None) -> BreakdownEntry:
    layer, old = pair
    named = layer or old
    assert named is not None
    return BreakdownEntry(str(named), after, before, (layer or named).op, (old or named).op)


def _tables(unit: str, entries: Sequence[BreakdownEntry], compared: bool) -> Iterator[OutcomeTable]:
    yield OutcomeTable(f"{unit} by operator", tuple(_rows("operator", unit, list(_operators(entries)), compared)))
    yield OutcomeTable(f"{unit} by layer", tuple(_rows("layer", unit, entries, compared)))


def _operators(entries: Iterable[BreakdownEntry]) -> Iterator[BreakdownEntry]:
    """The sums per operator: a layer that became another one counts for both, in its own time."""
    after, before = dict[str, float](), dict[str, float]()
    for entry in entries:
        if entry.after is not None:
            after[entry.operator] = after.get(entry.operator, 0) + entry.after
        if entry.before is not None:
            before[entry.operator_before] = before.get(entry.operator_before, 0) + entry.before
    for name in dict.fromkeys([*after, *before]):
        yield BreakdownEntry(name, after.get(name), before.get(name), name, name)


def _rows(what: str, unit: str, entries: Sequence[BreakdownEntry], compared: bool) -> Iterator[Mapping[str, Any]]:
    """The largest in the model first, then what only the baseline had."""
    some = [entry for entry in entries if entry.after or entry.before]
    ordered = sorted(some, key=lambda entry: (-(entry.after or 0), -(entry.before or 0)))
    shown = ordered[:TOP]
    if rest := ordered[TOP:]:
        name = f"(the other {len(rest):,})"
        shown.append(
            BreakdownEntry(name, _total(rest, lambda one: one.after), _total(rest, lambda one: one.before), name, name)
        )
    for entry in shown:
        row = {what: entry.name, unit: entry.after}
        if compared:
            row |= {f"baseline {unit}": entry.before, f"more {unit}": (entry.after or 0) - (entry.before or 0)}
        yield row


def _total(entries: Iterable[BreakdownEntry], value: Callable[[BreakdownEntry], float | None]) -> float | None:
    """The sum of the values that are there; None where none is."""
    values = [one for one in map(value, entries) if one is not None]
    return sum(values) if values else None
