"""Where in a checkpoint a model's weights lie: alone, under a name, or as one of several sets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from paredown.models.errors import InputError
from paredown.models.loading.state_names import without_wrappers

USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module", "model_state")
"""Names under which training scripts save the weights, beside an optimizer's state and others."""
_AVERAGE = "ema"
_NAMELESS = frozenset((_AVERAGE, "shadow", "average", "averages", "averaged", "swa"))
"""Words in the names of what scripts save of moving averages."""
_DEEPEST = 3


@dataclass(frozen=True)
class FoundState:
    """Tensors by name, and lines that a person should read."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def find_state(raw: Any, key: str | None, where: str) -> FoundState:
    """The weights in what a checkpoint holds: those under the dotted `key`, or the only ones, or those that are the
    model's by their name; of weights and their moving average the average, as timm has it.

    Raises InputError that names what there is to choose from.
    """
    found = _found(raw, key, where)
    nameless = [
        f"{where}: the averages in {name} have no names and are not taken; save the model with them copied into it"
        for name in _nameless_averages(raw, "")
    ]
    return FoundState(found.state, (*found.notes, *nameless))


def _found(raw: Any, key: str | None, where: str) -> FoundState:
    places = dict(_places(raw, ""))
    if key is not None:
        return _chosen(places, key, where)
    if not places:
        text = f"no state_dict, nor one under {', '.join(USUAL[:3])} or the like: save model.state_dict()"
        raise InputError(f"{where}: {text}")
    averages = [name for name in places if _AVERAGE in _words(name)]
    usual = next((name for name in USUAL if name in places), None)
    if len(places) == 1:
        return _state_at(places, next(iter(places)), where)
    if len(averages) == 1 and (alike := _alike(places, averages[0])):
        found = _state_at(places, averages[0], where)
        others = " or ".join(alike)
        text = f"the averaged weights ({averages[0]}) are taken; model.weights_key: {others} takes the others"
        return FoundState(found.state, (f"{where}: {text}", *found.notes))
    if usual and not averages and not _alike(places, usual):
        return _state_at(places, usual, where)
    raise InputError(f"{where}: several sets of weights ({', '.join(places)}): model.weights_key says which")


def _chosen(places: Mapping[str, Mapping[str, Any]], key: str, where: str) -> FoundState:
    """The weights under a dotted key, whose end may be the start of their names."""
    if key in places:
        return _state_at(places, key, where)
    for name in sorted(places, key=len, reverse=True):
        start = f"{key.removeprefix(f'{name}.') if name else key}."
        state = without_wrappers(_state_at(places, name, where).state)
        if key.startswith(f"{name}." if name else "") and any(one.startswith(start) for one in state):
            return FoundState({one.removeprefix(start): t for one, t in state.items() if one.startswith(start)})
    offered = ", ".join(name or "(no key)" for name in places) or "none"
    raise InputError(f"{where}: no weights under weights_key '{key}'; there are: {offered}")


def _places(raw: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Dotted key to mapping, of every mapping of names to tensors in a checkpoint."""
    if not isinstance(raw, Mapping) or name.count(".") >= _DEEPEST or not all(isinstance(key, str) for key in raw):
        return
    inner = {key: value for key, value in raw.items() if isinstance(value, Mapping)}
    tensors = [key for key, value in raw.items() if isinstance(value, Tensor)]
    if tensors and not (inner.keys() - {"_metadata"}):
        yield name, raw
        return
    for key, value in inner.items():
        yield from _places(value, f"{name}.{key}" if name else key)


def _nameless_averages(raw: Any, name: str) -> Iterator[str]:
    """The dotted keys of lists of tensors whose names say that they are moving averages."""
    if isinstance(raw, list | tuple):
        named = not _NAMELESS.isdisjoint(_words(name))
        if named and len(raw) > 1 and all(isinstance(value, Tensor) for value in raw):
            yield name
    elif isinstance(raw, Mapping) and name.count(".") < _DEEPEST:
        for key, value in raw.items():
            yield from _nameless_averages(value, f"{name}.{key}" if name else str(key))


def _state_at(places: Mapping[str, Mapping[str, Any]], name: str, where: str) -> FoundState:
    """The tensors of a place, and a line that names what is no tensor among them."""
    state = {key: value for key, value in places[name].items() if isinstance(value, Tensor)}
    others = [key for key in places[name] if key not in state and key != "_metadata"]
    notes = (f"{where}: left out, as no tensors: {', '.join(others[:3])}",) if others else ()
    return FoundState(state, notes)


def _alike(places: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    """Other places that hold tensors of the same names and shapes, so that they could be meant as well."""
    own = _shapes(places[name])
    return [other for other in places if other != name and _shapes(places[other]) == own]


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = {key: tuple(value.shape) for key, value in state.items() if isinstance(value, Tensor)}
    return {key.removeprefix("module."): shape for key, shape in shapes.items() if key != "n_averaged"}


def _words(name: str) -> list[str]:
    return name.lower().replace(".", "_").split("_")
