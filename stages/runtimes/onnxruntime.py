"""onnxruntime on the CPU: the default runtime."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from paredown.stages.runtimes.base import Images, Load, Runtime
from paredown.stages.runtimes.support import ort_session
from paredown.stages.runtimes.support.in_process import WARM_UP, fresh_peak, logits, naming_the_file, peak_memory
from paredown.stages.runtimes.support.machine import ThisMachine
from paredown.stages.runtimes.support.ort_graph import executed_operators
from paredown.stages.runtimes.support.ort_profile import node_durations
from paredown.stages.runtimes.support.standalone import SessionError
from paredown.stages.runtimes.support.timing import repeat, rounds_in_turns

NAME = "onnxruntime"


@dataclass(frozen=True)
class OnnxRuntime(ThisMachine, Runtime):
    """Runs and measures ONNX files with onnxruntime's CPU provider.

    Files take one float32 input (batch, channels, height, width) of a fixed size; their first output is the
    logits (batch, classes). A file that cannot be used raises InputError with its path.
    """

    def version(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def supports(self, feature: str) -> bool:
        """Zeros save no time here, so `sparse` is not supported; files in a container are."""
        return feature in ("int8", "narrow", "resize", "substitute", "gzip", "cold")

    def lower(self, model: ModelProto) -> ModelProto:
        """The portable form itself."""
        return model

    def run(self, model: Path, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits (images, classes). Batches are cut to the file's own size, the last piece is padded."""
        with naming_the_file(model, NAME):
            session = ort_session.open_session(model, threads)
            shape, name = ort_session.input_shape(session), session.get_inputs()[0].name
            return logits(model, batches, shape, lambda images: execute_session(session, {name: images}))

    def latency(
        self, models: Sequence[Path], load: Load, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        """Milliseconds per model, round and run, on seeded normal images.

        Every round opens a fresh session per model, because sessions of one file differ in speed by where
        their memory lies. With one thread the clock is the CPU clock of the calling thread, in which all work
        then runs: waiting for a core does not count. With more threads, or where that clock is coarse, it is
        wall time.
        """

        def prepare(model: Path, number: int) -> Callable[[], object]:
            with naming_the_file(model, NAME):
                return warm_session(ort_session.open_session(model, load.threads), load.batch, [seed, number])

        return rounds_in_turns(prepare, models, rounds, runs, load)

    def node_times(self, model: Path, load: Load, runs: int) -> dict[str, float]:
        """Kernel ms per node of the file, from onnxruntime's profiler (wall clock): the mean of the middle half of the
        runs, as the profiler counts whole microseconds and small nodes take two or three."""
        with naming_the_file(model, NAME), TemporaryDirectory() as folder:
            session = ort_session.open_session(model, load.threads, profile=Path(folder) / "profile")
            call = warm_session(session, load.batch, [0])
            repeat(call, runs, load)
            events = json.loads(Path(session.end_profiling()).read_text())
            per_node = node_durations(model, events)
        kept = {name: np.reshape(us, (WARM_UP + runs, -1))[WARM_UP:] for name, us in per_node.items()}
        return {name: middle_mean(us.sum(axis=1)) / 1e3 for name, us in kept.items()}

    def peak_memory(self, model: Path, load: Load) -> float:
        """Median over three fresh processes, in MiB; some 50 MiB of it are Python, numpy and onnxruntime."""
        return peak_memory(ort_session.__file__, NAME, model, load)

    def process_peak(self, model: Path, load: Load) -> float:
        """As in `peak_memory`, of one process."""
        return fresh_peak(ort_session.__file__, NAME, model, load)

    def executed_operators(self, model: Path) -> dict[str, str]:
        """From the graph that onnxruntime makes of the file, before it changes layouts and with them names."""
        with naming_the_file(model, NAME), TemporaryDirectory() as folder:
            return executed_operators(model, Path(folder))

    def optimised(self, model: Path) -> list[tuple[str, str]]:
        """(op type, node name) of the graph that onnxruntime executes: shows what was fused."""
        import onnx

        with naming_the_file(model, NAME), TemporaryDirectory() as folder:
            target = Path(folder) / "optimised.onnx"
            ort_session.open_session(model, 1, optimised=target)
            return [(n.op_type, n.name) for n in onnx.load(target, load_external_data=False).graph.node]


def middle_mean(values: NDArray[np.float64]) -> float:
    """The mean of the middle half."""
    quarter = len(values) // 4
    return float(np.sort(values)[quarter : len(values) - quarter].mean())


def execute_session(session: Any, feed: Mapping[str, Images]) -> Any:
    """The first output."""
    try:
        return session.run(None, feed)[0]
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise SessionError(ort_session.one_line(error)) from error


def warm_session(session: Any, batch: int, seed: Sequence[int]) -> Callable[[], object]:
    """A call that runs `session` on the same seeded normal images every time; it has run `WARM_UP` times."""
    shape = ort_session.input_shape(session, batch)
    images = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    feed = {session.get_inputs()[0].name: images}
    for _ in range(WARM_UP):
        execute_session(session, feed)
    return lambda: session.run(None, feed)


PLUGIN = OnnxRuntime
