"""DeepSparse on the CPU: the runtime that turns zeros in weights into time. It runs in an interpreter of its own."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from paredown.models.compression.conv_integer import conv_integer
from paredown.stages.runtimes.base import Images, Load, Runtime
from paredown.stages.runtimes.sidecars.registry import SIDECARS
from paredown.stages.runtimes.sidecars.worker import SidecarWorker
from paredown.stages.runtimes.support import deepsparse_profile
from paredown.stages.runtimes.support.in_process import logits, naming_the_file, onnx_input_shape
from paredown.stages.runtimes.support.machine import ThisMachine
from paredown.stages.runtimes.support.other_memory import cache_sizes, other_memory_size
from paredown.stages.runtimes.support.standalone import SessionError
from paredown.stages.runtimes.support.timing import turns_in_pairs

NAME = "deepsparse"

SCRIPT = Path(__file__).parent / "sidecars" / "deepsparse_verbs.py"

LEAST = 0.95
"""Share of operators that DeepSparse must compute itself; the rest runs in a slow path of other code."""

REOPENED = 9
"""Rounds that one set of engines is timed in: compiling one takes from 0.3 to 8 seconds."""

BLOCKS = 3
"""Times that a file is compiled anew to be profiled."""


@dataclass(frozen=True)
class DeepSparse(ThisMachine, Runtime):
    """Runs and measures ONNX files with DeepSparse 1.8 in its sidecar.

    Files are of the form that `lower` gives and take one float32 input (batch, channels, height, width) of a fixed
    size; their first output is the logits (batch, classes). A file that cannot be used raises InputError with its
    path, also where it ends the engine's process, which some do. Measuring refuses files of which DeepSparse leaves
    more than a twentieth of the operators to others: the time would not be DeepSparse's.
    """

    SIDECAR: ClassVar[str] = "deepsparse"

    def version(self) -> str:
        return f"{NAME} {SIDECARS[NAME].installed_version(NAME)}"

    def supports(self, feature: str) -> bool:
        """Zeros too: `block4` saves time in int8 layers, `unstructured` mostly in fp32 ones; how much is measured."""
        return feature in ("int8", "narrow", "resize", "substitute", "sparse", "cold")

    def lower(self, model: ModelProto) -> ModelProto:
        """Opset 17, int8 layers as integer ones: it computes files in QDQ form in its slow path."""
        return conv_integer(model)

    def run(self, model: Path, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits (images, classes). Batches are cut to the file's own size, the last piece is padded."""
        with deepsparse_worker(model) as far, tempfile.TemporaryDirectory() as folder:
            images, target = Path(folder) / "images.npy", Path(folder) / "logits.npy"

            def execute(batch: Images) -> NDArray[np.float32]:
                np.save(images, batch)
                far.ask("logits", model=str(model), threads=threads, images=str(images), target=str(target))
                return np.asarray(np.load(target), np.float32)

            return logits(model, batches, onnx_input_shape(model), execute)

    def latency(
        self, models: Sequence[Path], load: Load, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        """Milliseconds per model, round and run, on seeded normal images.

        With one thread the clock is the CPU clock of the thread that asks, in which the engine then computes: idle it
        agreed with wall time within 0.1 %, and beside two busy processes it read 0.95 to 1.2 times as much, where wall
        time read up to 4 times. With more threads it is wall time, and the engine's threads wait for each other by
        spinning: beside busy processes that is no measurement.

        The models are compiled anew every `REOPENED` rounds only, because that takes seconds. They run in spells with
        cold caches too, other memory being read before every run.
        """
        times: list[list[list[float]]] = [[] for _ in models]
        with deepsparse_worker(*models) as far:
            shapes = [onnx_input_shape(model, load.batch) for model in models]
            other = other_memory_size(cache_sizes()) if load.caches == "cold" else 0
            fixed = {"models": list(map(str, models)), "shapes": shapes, "threads": load.threads, "other": other}
            for number in range(rounds):
                if number % REOPENED == 0:
                    self._open(far, models, load)
                asked = {**fixed, "seed": [seed, number], "schedule": turns_in_pairs(len(models), runs)}
                for per_model, per_round in zip(times, far.ask("round", **asked), strict=True):
                    per_model.append(per_round)
        return times

    def node_times(self, model: Path, load: Load, runs: int) -> dict[str, float]:
        """Mean ms per node of the file over at least `runs` runs, from the engine's own analysis (wall clock).

        The engine tells means since a file was compiled, so it is compiled `BLOCKS` times and the median of those
        means is taken. What it computes in one piece is shared out by multiply-adds. The analysis runs the file in a
        loop of its own, so these times are those of hot caches always.
        """
        with deepsparse_worker(model) as far:
            shape, each = onnx_input_shape(model, load.batch), -(-runs // BLOCKS)
            self._open(far, [model], load)
            blocks = [
                far.ask("layers", model=str(model), shape=shape, threads=load.threads, runs=each) for _ in range(BLOCKS)
            ]
            return deepsparse_profile.node_times(model, blocks)

    def peak_memory(self, model: Path, load: Load) -> float:
        """Median over three fresh processes, in MiB, Python, numpy and DeepSparse included."""
        return float(np.median([self.process_peak(model, load) for _ in range(3)]))

    def process_peak(self, model: Path, load: Load) -> float:
        """As in `peak_memory`, of one process."""
        with deepsparse_worker(model) as far:
            shape = onnx_input_shape(model, load.batch)
            self._open(far, [model], load)
            return float(far.ask("peak", model=str(model), shape=shape, threads=load.threads))

    def _open(self, far: SidecarWorker, models: Sequence[Path], load: Load) -> None:
        """Compiles the models anew. Raises InputError for one that DeepSparse does not compute itself."""
        for model in models:
            with naming_the_file(model, NAME):
                share = far.ask("open", model=str(model), threads=load.threads, batch=load.batch)
                if share < LEAST:
                    raise SessionError(f"not measured: it computes only {100 * share:.0f} % of the operators itself")


@contextmanager
def deepsparse_worker(*models: Path) -> Iterator[SidecarWorker]:
    """A process for requests about `models`; a refusal becomes the one line that the user sees."""
    with (
        naming_the_file(" and ".join(map(str, models)), NAME),
        SidecarWorker(NAME, SIDECARS[NAME].python, SCRIPT) as far,
    ):
        yield far


PLUGIN = DeepSparse
