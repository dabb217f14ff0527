"""The transforms that a recipe names, with their options, and the engine that they name."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from paredown.models.compression.sparsity import Sparsity
from paredown.models.errors import InputError, MissingError
from paredown.models.network.layers import Layer
from paredown.stages import plugins
from paredown.stages.base import State
from paredown.stages.engines.base import Engine
from paredown.stages.products.cost_profile import ProfiledSites
from paredown.stages.solvers.problem import Choice, transform_and_place
from paredown.stages.transforms.base import Transform


class UnknownTransform(Transform):
    """Stands for a transform of another's file or package, of which only sites are known: reports ask nothing else."""

    FEATURE: ClassVar[str] = ""


def load_transforms(named: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, Transform]:
    """The named transforms in the order in which they are applied. Raises InputError for one that is not known, or
    whose options are wrong, MissingError where one is not installed."""
    try:
        made: dict[str, Transform] = {
            name: plugins.make_plugin("transforms", name, options, root) for name, options in named.items()
        }
    except InputError as error:
        raise InputError(f"profile.transforms: {error}") from error
    return dict(sorted(made.items(), key=lambda item: item[1].ORDER))


def profiled_transforms(state: State) -> tuple[Transform, ...]:
    """The transforms that took part, in the order in which they are applied."""
    return tuple(load_transforms(ProfiledSites.load(state.product("profile")).transforms, state.root).values())


def needed_products(named: Sequence[str], root: Path) -> tuple[str, ...]:
    """The products that transforms need, each once; one that cannot be loaded needs none, as it is refused later."""
    needed: dict[str, None] = {}
    for name in named:
        try:
            needed |= dict.fromkeys(plugins.load_plugin("transforms", name, root).NEEDS)
        except (InputError, MissingError):
            continue
    return tuple(needed)


def engine_of_transforms(transforms: Sequence[Transform], root: Path) -> Engine:
    """The engine that calibrates int8: the first that a transform names, else our own. Raises MissingError where it is
    not installed."""
    engines = (transform.engine_of_int8(root) for transform in transforms)
    return next((engine for engine in engines if engine is not None), None) or plugins.make_plugin(
        "engines", "own", {}, root
    )


def sparsities(transforms: Sequence[Transform]) -> Callable[[Layer], Sequence[Sparsity]]:
    """What a layer is to be pruned to beforehand, each once."""
    return lambda layer: tuple(dict.fromkeys(s for one in transforms for s in one.pruned_beforehand(layer)))


def sparse_layers(transforms: Sequence[Transform], choice: Choice) -> dict[str, Sparsity]:
    """The layers whose weights a plan gives zeros."""
    return {name: sparsity for one in transforms for name, sparsity in one.sparse_layers(choice).items()}


def transform_of(site: str) -> type[Transform]:
    """The class of the transform that a site's name starts with; `UnknownTransform` where none of that name comes with
    paredown or is installed. No file is run that only a site's name names: locks and manifests may be anybody's."""
    return _class_of(transform_and_place(site)[0])


@cache
def _class_of(name: str) -> type[Transform]:
    if name not in plugins.plugin_names("transforms") or plugins.missing_requirement("transforms", name):
        return UnknownTransform
    known: type[Transform] = plugins.load_plugin("transforms", name)
    return known
