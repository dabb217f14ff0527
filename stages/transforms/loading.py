"""The transforms that a recipe names, with their options, and the engine that they name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from paredown.models.compression.sparsity import Sparsity
from paredown.models.errors import InputError
from paredown.models.network.layers import Layer
from paredown.stages.base import State
from paredown.stages.engines.base import Engine
from paredown.stages.plugins import make
from paredown.stages.products.cost_profile import CostProfile, ProfiledSites
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.sparsify import Sparsify


def engine_of(transforms: Sequence[Transform], root: Path) -> Engine:
    """With its options; our own where no transform names one. Raises MissingError where it is not installed."""
    said = next((transform.engine for transform in transforms if hasattr(transform, "engine")), "own")
    named: dict[str, dict[str, Any]] = {said: {}} if isinstance(said, str) else said
    if len(named) != 1:
        raise InputError(f"quantize.engine names {len(named)} engines ({', '.join(named)}); allowed: one")
    ((name, options),) = named.items()
    return cast(Engine, make("engines", name, options, root))


def sparsities(transforms: Sequence[Transform]) -> Callable[[Layer], Sequence[Sparsity]]:
    """What layers are to be pruned to beforehand."""
    prepared = [t for t in transforms if isinstance(t, Sparsify) and t.method == "obs"]
    return prepared[0].offers if prepared else lambda _: ()


def load_transforms(named: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, Transform]:
    try:
        return {name: make("transforms", name, options, root) for name, options in named.items()}
    except InputError as error:
        raise InputError(f"profile.transforms: {error}") from error


def profiled_transforms(state: State) -> tuple[Transform, ...]:
    """The transforms that took part, in the order in which they are applied."""
    return tuple(load_transforms(ProfiledSites.load(state.product("profile")).transforms, state.root).values())


def load_profile(state: State) -> tuple[CostProfile, tuple[Transform, ...]]:
    """The cost model, and the transforms that it was made for. Raises InputError where a lock left it untimed."""
    profile = ProfiledSites.load(state.product("profile"))
    if profile.costs is None:
        raise InputError("the profile holds no times: it was made for the plan of a lock")
    return profile.costs, tuple(load_transforms(profile.transforms, state.root).values())
