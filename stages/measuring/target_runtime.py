"""The runtime that a recipe names as its target."""

from pathlib import Path

from paredown.models.errors import InputError
from paredown.stages.base import State
from paredown.stages.limits import Target
from paredown.stages.plugins import make_plugin
from paredown.stages.runtimes.base import Runtime


def runtime_of(state: State) -> Runtime:
    """The runtime of a state's target."""
    return target_runtime(state.target, state.root)


def target_runtime(target: Target, root: Path) -> Runtime:
    """The target's runtime, a file of its own being looked up in `root`. Raises InputError where it cannot open the
    target's container or measure with its caches, MissingError where it is not installed."""
    runtime: Runtime = make_plugin("runtimes", target.runtime, {}, root)
    if target.container != "plain" and not runtime.supports(target.container):
        raise InputError(f"target.container: {target.runtime} cannot open {target.container} files; allowed: plain")
    return able_to_measure(runtime, target)


def able_to_measure(runtime: Runtime, target: Target) -> Runtime:
    """The same; raises InputError where it cannot measure with the target's caches."""
    if target.caches == "cold" and not runtime.supports("cold"):
        told = f"{type(runtime).__name__} reads no other memory between two runs"
        raise InputError(f"target.caches: {told}; allowed: hot")
    return runtime
