"""Opens onnxruntime sessions; run as a script it measures the peak memory of one in a fresh process."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paredown.stages.runtimes.support import standalone
from paredown.stages.runtimes.support.standalone import SessionError


def open_session(
    model: Path, threads: int, profile: Path | None = None, optimised: Path | None = None, layouts: bool = True
) -> Any:
    """A CPU session as one deploys it: all optimisations, `threads` threads that sleep when idle.

    `profile` is the prefix of the profiler's file, `optimised` the file for the optimised graph; without `layouts` the
    last optimisation is left out, which changes layouts and names.
    Raises SessionError where onnxruntime cannot load the file.
    """
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if layouts else levels.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4  # its errors are raised as well
    # Spinning threads of an idle session slow down the session that is being timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else a file's name or first bytes can say that it is of onnxruntime's own format, which is not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if optimised:
        options.optimized_model_filepath = str(optimised)
    if not model.is_file():
        raise SessionError("no such file")
    try:
        # The fallback is the same provider once more, and prints to stdout.
        return ort.InferenceSession(
            standalone.model_source(model), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except SessionError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise SessionError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """The first line of onnxruntime's message, without its numeric prefix."""
    text = str(error).strip() or type(error).__name__
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.splitlines()[0])


def input_shape(session: Any, batch: int | None = None) -> tuple[int, ...]:
    """See `standalone.input_shape`."""
    return standalone.input_shape([(i.name, i.type, i.shape) for i in session.get_inputs()], batch)


def prepare(model: Path, threads: int, batch: int) -> Callable[[], object]:
    """A session as a call on normal images, for the fresh process."""
    import numpy as np

    session = open_session(model, threads)
    images = np.random.default_rng(0).standard_normal(input_shape(session, batch), dtype=np.float32)
    return lambda: session.run(None, {session.get_inputs()[0].name: images})


if __name__ == "__main__":
    sys.exit(standalone.print_peak(prepare))
