"""What runtimes that run in this process share: batches that fit, errors that name the file, fresh processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paredown.models.errors import InputError, ParedownError
from paredown.models.onnx.answers import scores_of_output
from paredown.stages.runtimes.base import Images, Load
from paredown.stages.runtimes.support.standalone import BAD_MODEL, FLOAT, Input, SessionError, input_shape

WARM_UP = 3
"""Runs before those that count: the first ones allocate."""


@contextmanager
def naming_the_file(model: Path | str, runtime: str) -> Iterator[None]:
    """Turns a refusal of `runtime` into the one line that the user sees."""
    try:
        yield
    except SessionError as error:
        raise InputError(f"{model}: {runtime} cannot use this file: {error}") from error


def check_onnx_file(model: Path) -> Any:
    """The ModelProto in a file. Raises SessionError where it is not sound ONNX: some runtimes crash on those."""
    from paredown.models.onnx.checked_file import open_checked

    if not model.is_file():
        raise SessionError("no such file")
    try:
        return open_checked(model)
    except InputError as error:
        raise SessionError(str(error).removeprefix(f"{model}: ")) from error


def onnx_input_shape(model: Path, batch: int | None = None) -> tuple[int, ...]:
    """See `standalone.input_shape`; for runtimes that cannot tell it, from the file, which is checked."""
    graph = check_onnx_file(model).graph
    constants = {item.name for item in graph.initializer}
    return input_shape([described(value) for value in graph.input if value.name not in constants], batch)


def described(value: Any) -> Input:
    """Name, type and shape of an input of an ONNX graph."""
    import onnx

    tensor = value.type.tensor_type
    kind = FLOAT if tensor.elem_type == onnx.TensorProto.FLOAT else onnx.TensorProto.DataType.Name(tensor.elem_type)
    sizes = [size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim]
    return value.name, kind, sizes


def logits(
    model: Path, batches: Iterable[Images], shape: tuple[int, ...], execute: Callable[[Images], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits (images, classes). `execute` takes images of `shape`: batches are cut to it, the last piece is padded."""
    pieces = [forward_chunks(images, shape, execute) for batch in batches for images in image_chunks(batch, shape[0])]
    if not pieces:
        raise InputError(f"{model}: there are no images to run")
    return np.concatenate(pieces)


def image_chunks(images: Images, size: int) -> Iterator[Images]:
    """Pieces of `size` images; the last one may be shorter."""
    return (images[start : start + size] for start in range(0, len(images), size))


def forward_chunks(
    images: Images, shape: tuple[int, ...], execute: Callable[[Images], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits of `images`, which are padded to `shape` for the run."""
    if images.shape[1:] != shape[1:]:
        raise SessionError(f"it takes images of {shape[1:]}, got {images.shape[1:]}")
    padded = np.zeros(shape, np.float32)
    padded[: len(images)] = images
    try:
        return scores_of_output(execute(padded), len(padded))[: len(images)]
    except ValueError as error:
        raise SessionError(f"its first output cannot be judged: {error}") from error


def peak_memory(script: str, runtime: str, model: Path, load: Load) -> float:
    """Median peak in MiB over three fresh processes that run `script` (see `standalone.print_peak`)."""
    return float(np.median([fresh_peak(script, runtime, model, load) for _ in range(3)]))


def fresh_peak(script: str, runtime: str, model: Path, load: Load) -> float:
    """Peak MiB of one fresh process."""
    # -P keeps this folder, in which files are named as runtimes are, off the import path of the script.
    command = [sys.executable, "-P", script, str(model), str(load.threads), str(load.batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return float(json.loads(done.stdout)["peak"])
    line = next(chain(reversed(done.stderr.strip().splitlines()), ["it printed nothing"]))
    if done.returncode == BAD_MODEL:
        raise InputError(f"{model}: {runtime} cannot use this file: {line}")
    raise ParedownError(f"{model}: the process that measures memory ended with {done.returncode}: {line}")
