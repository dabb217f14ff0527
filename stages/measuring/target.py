"""Measures an ONNX file on the target's runtime: the numbers that every claim rests on."""

from pathlib import Path

from onnx import ModelProto

from paredown.models.errors import InputError
from paredown.models.onnx.edit import save
from paredown.stages.base import State
from paredown.stages.limits import Target
from paredown.stages.plugins import make
from paredown.stages.runtimes.base import Runtime

MODEL, PORTABLE = "model.onnx", "portable.onnx"
SUFFIX = {"plain": "", "gzip": ".gz"}
"""What files in a container are called, after the name that they would have without."""


def runtime_of(state: State) -> Runtime:
    """The target's runtime."""
    return target_runtime(state.target, state.root)


def target_runtime(target: Target, root: Path) -> Runtime:
    """Raises InputError where it cannot open the target's container, MissingError where it is not installed."""
    runtime: Runtime = make("runtimes", target.runtime, {}, root)
    if target.container != "plain" and not runtime.supports(target.container):
        raise InputError(f"target.container: {target.runtime} cannot open {target.container} files; allowed: plain")
    return runtime


def write(model: ModelProto, runtime: Runtime, folder: Path, container: str = "plain") -> Path:
    """Writes `model.onnx` as the runtime takes it, and beside it `portable.onnx` where that is another form.

    In a container it is `model.onnx.gz`.
    """
    lowered, path = runtime.lower(model), folder / f"{MODEL}{SUFFIX[container]}"
    save(lowered, path)
    if lowered != model:
        save(model, folder / PORTABLE)
    return path


def stored(folder: Path) -> Path:
    """The model in the folder, in a container or not."""
    return next(path for suffix in SUFFIX.values() if (path := folder / f"{MODEL}{suffix}").exists())


def portable(folder: Path) -> Path:
    """The file in `folder` that every runtime can be given after its own lowering."""
    return folder / PORTABLE if (folder / PORTABLE).exists() else stored(folder)
