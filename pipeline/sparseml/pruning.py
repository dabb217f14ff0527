"""What a SparseML recipe prunes, to which level, in which pattern and how."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.models.errors import InputError
from paredown.pipeline.sparseml.layer_pins import LayerPin, layer_pins_of
from paredown.pipeline.sparseml.modifiers import SparsemlModifier

PATTERNS = ("unstructured", "block4", "2:4")
_SPELLINGS = {"[1, 4]": "block4", "tensorrt": "2:4", "0:0": "unstructured", "block_1,4": "block4"}


@dataclass(frozen=True)
class ImportedPruning:
    """`pins` in order; layers that none of them names stay dense."""

    pins: tuple[LayerPin, ...]
    pattern: str
    method: str


def imported_pruning(
    modifiers: Sequence[SparsemlModifier], held: float | None
) -> tuple[ImportedPruning | None, list[str]]:
    """What is pruned, and notes about what was left out; None where the recipe prunes nothing.

    `held`: the sparsity that weights came with, where only a ConstantPruningModifier keeps it.
    Raises InputError where two modifiers want different levels for a layer, or what paredown has no form for.
    """
    shaping = [m for m in modifiers if m.name in ("GMPruningModifier", "MagnitudePruningModifier", "SparseGPTModifier")]
    keeping = [m for m in modifiers if m.name == "ConstantPruningModifier"]
    for modifier in shaping:
        _refuse_global(modifier)
    if shaping and held is not None:
        raise shaping[0].wrong("", "names the level itself; leave --sparsity out")
    if shaping:
        notes = [f"{m.where()}: {m.name}: masks hold to the end anyway" for m in keeping]
        pins = [pin for m in shaping for pin in _levels(m)]
        pattern, method = _only("mask_type", shaping, _pattern), _only("", shaping, _method)
    else:
        notes, pattern, method = [], "unstructured", "magnitude"
        pins = [pin for m in keeping for pin in layer_pins_of(m, "params", m.names("params"), _held(m, held))]
    notes += [note for m in (*shaping, *keeping) for note in _beside_weights(m)]
    if not any(pin.value for pin in pins):
        return None, notes
    return ImportedPruning(_agreed(pins), pattern, method), notes


def _held(modifier: SparsemlModifier, held: float | None) -> float:
    if held is None:
        keeps = "keeps the zeros that the weights already have, and the recipe does not say how many"
        raise modifier.wrong("", f"{keeps}; say it with --sparsity, such as --sparsity 0.85")
    return held


def _refuse_global(modifier: SparsemlModifier) -> None:
    for key in ("global_sparsity", "apply_globally"):
        if modifier.get(key, False):
            raise modifier.wrong(key, "asks for one level over all layers together; allowed: false (a level per layer)")
    if modifier.get("phased", False) or modifier.get("score_type", "magnitude") != "magnitude":
        key = "phased" if modifier.get("phased", False) else "score_type"
        raise modifier.wrong(key, f"is {modifier.get(key)!r}, which SparseML refuses too; leave it out")


def _levels(modifier: SparsemlModifier) -> Iterator[LayerPin]:
    key = "sparsity" if modifier.name == "SparseGPTModifier" else "final_sparsity"
    level = modifier.get(key)
    if isinstance(level, list):
        raise modifier.wrong(key, "lists levels in the order of the model's layers; allowed: one number")
    if isinstance(level, dict):
        if modifier.get("params"):
            raise modifier.wrong("params", f"stands beside levels that name their own params in {key}; allowed: []")
        for number, names in level.items():
            yield from layer_pins_of(modifier, key, _listed(modifier, key, names), _level(modifier, key, number))
        return
    everything = ["__ALL__"] if modifier.name == "SparseGPTModifier" else None
    yield from layer_pins_of(modifier, "params", modifier.names("params", everything), _level(modifier, key, level))


def _listed(modifier: SparsemlModifier, key: str, names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
        raise modifier.wrong(key, f"should hold a list of names per level, got {names!r}")
    return names


def _level(modifier: SparsemlModifier, key: str, value: Any) -> float:
    if value is None:
        raise modifier.wrong(key, "is missing")
    level = modifier.checked(key, value, 0, 0.999)
    if _pattern(modifier) == "2:4" and abs(level - 0.5) > 0.01:
        raise modifier.wrong(key, f"is {level:g}, but two of four are 0.5")
    return level


def _pattern(modifier: SparsemlModifier) -> str:
    written = modifier.get("mask_type", "unstructured")
    pattern = _SPELLINGS.get(str(written), written)
    if pattern not in PATTERNS:
        allowed = ", ".join(map(str, (*PATTERNS, *_SPELLINGS)))
        raise modifier.wrong("mask_type", f"is {written!r}, which paredown cannot prune in; allowed: {allowed}")
    return str(pattern)


def _method(modifier: SparsemlModifier) -> str:
    return "obs" if modifier.name == "SparseGPTModifier" else "magnitude"


def _only(key: str, modifiers: Sequence[SparsemlModifier], of: Callable[[SparsemlModifier], str]) -> str:
    """What all modifiers share: a paredown recipe prunes every layer in one pattern by one method."""
    first = modifiers[0]
    for other in modifiers[1:]:
        if of(other) != of(first):
            there = f"{first.name} on line {first.where().rpartition(':')[2]} wants {of(first)}"
            raise other.wrong(key, f"wants {of(other)}, but {there}; allowed: the same for all layers")
    return of(first)


def _agreed(pins: Sequence[LayerPin]) -> tuple[LayerPin, ...]:
    """The pins without repetitions, names before expressions; raises InputError where two contradict each other."""
    kept: list[LayerPin] = []
    for pin in pins:
        rivals = [other for other in kept if other.meets(pin) and other.value != pin.value]
        if rivals:
            other = rivals[0]
            both = f"{other.layers} on line {other.where.rpartition(':')[2]} is to have {other.value}"
            raise InputError(f"{pin.where}: {pin.layers} is to have {pin.value}, but {both}: they share layers")
        if all(pin.layers != other.layers for other in kept):
            kept.append(pin)
    return tuple(sorted(kept, key=lambda pin: pin.many))


def _beside_weights(modifier: SparsemlModifier) -> Iterator[str]:
    """Notes about parameters that stay dense, since paredown prunes weights only."""
    levels = modifier.get("final_sparsity")
    places = {"params": modifier.names("params", [])}
    if isinstance(levels, dict):
        places["final_sparsity"] = [name for names in levels.values() for name in names]
    for key, names in places.items():
        for name in names:
            if name == "__ALL__" and not modifier.name.startswith("SparseGPT"):
                yield f"{modifier.where(key)}: {modifier.name}: biases and batch norms stay dense"
            elif name.rstrip("$").endswith("bias"):
                yield f"{modifier.where(key)}: {modifier.name}: {name} stays dense, only weights are pruned"
