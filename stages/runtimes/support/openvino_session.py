"""Compiles files with OpenVINO; run as a script it measures the peak memory of one in a fresh process."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paredown.stages.runtimes.support import standalone
from paredown.stages.runtimes.support.standalone import FLOAT, SessionError

PROPERTIES = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    # The default is bfloat16 where the machine has it, and int8 activations in linear layers with int8 weights.
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    # A pinned thread waits for its core while another core idles: 4.0 ms of wall time for 1.4 of work.
    "ENABLE_CPU_PINNING": False,
}
"""What a file is compiled with; none of it keeps a model cache."""


def import_openvino() -> Any:
    """The package openvino without its telemetry.

    Importing it writes an identifier into the home folder and reports the import to a server, unasked, where
    openvino_telemetry can be imported. Where that cannot, openvino falls back to a stub of its own.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes the import fail
    return importlib.import_module("openvino")


def compile_file(
    model: Path, threads: int, batch: int | None = None, profile: bool = False
) -> tuple[Any, tuple[int, ...]]:
    """A compiled file and the shape (batch, channels, height, width) that it takes; see `standalone.input_shape`.

    The file must be sound ONNX: some that are not end the whole process here. Raises SessionError where OpenVINO
    refuses it.
    """
    core = import_openvino().Core()
    options = {**PROPERTIES, "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": profile}
    try:
        graph = core.read_model(standalone.model_source(model))
        shape = standalone.input_shape([described(one) for one in graph.inputs], batch)
        graph.reshape(shape)
        return core.compile_model(graph, "CPU", options), shape
    except RuntimeError as error:
        raise SessionError(one_line(error)) from error


def described(value: Any) -> standalone.Input:
    """Name, type in ONNX's words and shape of an input; open sizes are `?`."""
    kind = value.element_type.get_type_name()
    shape = [size.get_length() if size.is_static else "?" for size in value.partial_shape]
    return value.any_name, FLOAT if kind == "f32" else kind, shape


def one_line(error: Exception) -> str:
    """The last line of OpenVINO's message: those before it say where in its sources."""
    lines = [line.strip("- ") for line in str(error).splitlines() if line.strip("- ")]
    return lines[-1] if lines else type(error).__name__


def infer_request(compiled: Any, images: Any) -> Any:
    """A request that infers `images`, which are not copied; they must have the shape that the file takes."""
    made = compiled.create_infer_request()
    made.set_input_tensor(import_openvino().Tensor(images, shared_memory=True))
    return made


def prepare(model: Path, threads: int, batch: int) -> Callable[[], object]:
    """A compiled file as a call on normal images, for the fresh process."""
    import numpy as np

    compiled, shape = compile_file(model, threads, batch)
    made = infer_request(compiled, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    return lambda: made.infer()


if __name__ == "__main__":
    sys.exit(standalone.print_peak(prepare))
