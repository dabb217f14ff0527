"""Opens onnxruntime sessions; run as a script it measures the peak memory of one in a fresh process.

The script imports nothing else of paredown: the peak is that of Python, numpy, onnxruntime and the model.
"""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

BAD_MODEL = 3
"""Exit code of the script where the model cannot be used; Python itself exits with 1 or 2."""


class SessionError(Exception):
    """onnxruntime refused a file; the text is one line without the file's name."""


def open_session(model: Path, threads: int, profile: Path | None = None, optimised: Path | None = None) -> Any:
    """A CPU session as one deploys it: all optimisations, `threads` threads that sleep when idle.

    `profile` is the prefix of the profiler's file, `optimised` the file for the optimised graph.
    Raises SessionError where onnxruntime cannot load the file.
    """
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # its errors are raised as well
    # Spinning threads of an idle session slow down the session that is being timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if optimised:
        options.optimized_model_filepath = str(optimised)
    if not model.is_file():
        raise SessionError("no such file")
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise SessionError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """The first line of onnxruntime's message, without its numeric prefix."""
    text = str(error).strip() or type(error).__name__
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.splitlines()[0])


def input_shape(session: Any, batch: int | None = None) -> tuple[int, ...]:
    """(batch, channels, height, width) of the only input; without `batch` the file's own, 1 where it is open.

    Raises SessionError where the file takes anything else than `batch` float images of a fixed size.
    """
    inputs = session.get_inputs()
    found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    wanted = f"one tensor(float) [{batch or 'batch'}, channels, height, width]"
    error = SessionError(f"it takes {found}; allowed is {wanted}")
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise error
    first, *rest = inputs[0].shape
    size = first if isinstance(first, int) else batch or 1
    if not all(isinstance(value, int) for value in rest) or size != (batch or size):
        raise error
    return (size, *rest)


def peak() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would start at the parent's size on Linux
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 1024
    import resource

    used: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024**2 if sys.platform == "darwin" else 1024)


def main(model: str, threads: str, batch: str) -> int:
    """Load, run four times, print `{"peak": MiB}`."""
    import numpy as np

    try:
        session = open_session(Path(model), int(threads))
        shape = input_shape(session, int(batch))
    except SessionError as error:
        print(error, file=sys.stderr)
        return BAD_MODEL
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for _ in range(4):
        session.run(None, {session.get_inputs()[0].name: images})
    print(json.dumps({"peak": peak()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
