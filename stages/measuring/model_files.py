"""The files of a model in a product's folder: in the form that the target's runtime takes, and in the portable form."""

from pathlib import Path

from onnx import ModelProto

from paredown.models.onnx.edit import save_onnx
from paredown.stages.runtimes.base import Runtime

MODEL, PORTABLE = "model.onnx", "portable.onnx"
SUFFIX = {"plain": "", "gzip": ".gz"}
"""What files in a container are called, after the name that they would have without."""


def write_model(model: ModelProto, runtime: Runtime, folder: Path, container: str = "plain") -> Path:
    """Writes `model.onnx` as the runtime takes it, and beside it `portable.onnx` where that is another form.

    In a container it is `model.onnx.gz`.
    """
    lowered, path = runtime.lower(model), folder / f"{MODEL}{SUFFIX[container]}"
    save_onnx(lowered, path)
    if lowered != model:
        save_onnx(model, folder / PORTABLE)
    return path


def stored_model(folder: Path) -> Path:
    """The model in the folder as the target's runtime takes it, in a container or not."""
    return next(path for suffix in SUFFIX.values() if (path := folder / f"{MODEL}{suffix}").exists())


def portable_model(folder: Path) -> Path:
    """The file in `folder` that every runtime can be given after its own lowering."""
    return folder / PORTABLE if (folder / PORTABLE).exists() else stored_model(folder)
