"""The names of weights in a checkpoint, brought to those of a model: what wrappers and frameworks put before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from paredown.models.errors import InputError

_WRAPPERS = ("module.", "_orig_mod.")
_COUNTERS = ("total_ops", "total_params")
"""Buffers that thop leaves in every module."""


@dataclass(frozen=True)
class NamedState:
    """Tensors under a model's own names, and lines that say what was left out."""

    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the prefixes of wrappers that all names have, in any order, and without what counters of
    operations and of averaged models left."""
    own = {key: value for key, value in state.items() if key.rpartition(".")[2] not in (*_COUNTERS, "n_averaged")}
    while prefix := next((one for one in _WRAPPERS if own and all(key.startswith(one) for key in own)), ""):
        own = {key.removeprefix(prefix): value for key, value in own.items()}
    return own


def names_of_model(state: Mapping[str, Tensor], wanted: Sequence[str], where: str) -> NamedState:
    """The state under the `wanted` names: where all of them lie under one prefix, without it and what lies beside.

    A state that holds none of them whole stays as it is. Raises InputError where two prefixes hold all of them.
    """
    compiled = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    state = state if set(wanted) & set(state) else compiled
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    if not needed or any(key in state for key in needed):
        return NamedState(state)
    prefixes = [key[: -len(needed[0])] for key in state if key.endswith(f".{needed[0]}")]
    whole = [prefix for prefix in prefixes if all(prefix + key in state for key in needed)]
    if len(whole) > 1:
        choice = ", ".join(prefix.rstrip(".") for prefix in whole)
        raise InputError(f"{where}: several sets of weights ({choice}): model.weights_key says which")
    if not whole:
        likely = max(prefixes, key=lambda prefix: sum(prefix + key in state for key in needed), default="")
        return NamedState({key.removeprefix(likely): value for key, value in state.items()})
    inside = {key.removeprefix(whole[0]): value for key, value in state.items() if key.startswith(whole[0])}
    beside = [key for key in state if not key.startswith(whole[0])]
    shown = ", ".join(beside[:3]) + (", ..." if len(beside) > 3 else "")
    return NamedState(inside, (f"{where}: left out, as not under '{whole[0]}': {shown}",) if beside else ())
