"""What a process needs to open and run one file, with no imports that need more than the standard library.

A fresh process in which peak memory is measured imports this, a runtime and numpy: the peak is theirs and the model's.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paredown.models.loading.gzip_container import ContainerError, unpacked_bytes

BAD_MODEL = 3
"""Exit code of a script where the model cannot be used; Python itself exits with 1 or 2."""

FLOAT = "tensor(float)"
"""How ONNX writes the type that a file must take."""

Input = tuple[str, str, Sequence[Any]]
"""(name, type, shape) of an input; what is no int in the shape is an open size."""


class SessionError(Exception):
    """A runtime refused a file; the text is one line without the file's name."""


def input_shape(inputs: Sequence[Input], batch: int | None = None) -> tuple[int, ...]:
    """(batch, channels, height, width) of the only input; without `batch` the file's own, 1 where it is open.

    Raises SessionError where the file takes anything else than `batch` float images of a fixed size.
    """
    given = ", ".join(f"{name} {kind} {list(shape)}" for name, kind, shape in inputs)
    wanted = f"one {FLOAT} [{f'{batch} (target.batch)' if batch else 'batch'}, channels, height, width]"
    error = SessionError(f"it takes {given}; allowed is {wanted}, all but the batch fixed")
    if len(inputs) != 1 or inputs[0][1] != FLOAT or len(inputs[0][2]) != 4:
        raise error
    first, *rest = inputs[0][2]
    size = first if isinstance(first, int) else batch or 1
    if not all(isinstance(value, int) for value in rest) or size != (batch or size):
        raise error
    return (size, *rest)


def model_source(model: Path) -> bytes | str:
    """What runtimes are given: the path, or the bytes of a file in a container."""
    try:
        return unpacked_bytes(model) if model.suffix == ".gz" else str(model)
    except ContainerError as error:
        raise SessionError(str(error)) from error


def peak() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would start at the parent's size on Linux
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 1024
    import resource

    used: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024**2 if sys.platform == "darwin" else 1024)


def print_peak(prepare: Callable[[Path, int, int], Callable[[], object]]) -> int:
    """The whole of a script `model threads batch`: prepares the model, runs it four times, prints `{"peak": MiB}`."""
    model, threads, batch = sys.argv[1:]
    try:
        call = prepare(Path(model), int(threads), int(batch))
    except SessionError as error:
        print(error, file=sys.stderr)
        return BAD_MODEL
    for _ in range(4):
        call()
    print(json.dumps({"peak": peak()}))
    return 0
