"""onnxruntime on the CPU: the default runtime."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from paredown.models.spec import InputError, ParedownError
from paredown.stages.runtimes import _machine, _session
from paredown.stages.runtimes._profile import node_durations
from paredown.stages.runtimes._timing import collector_off, pick_clock, take_turns
from paredown.stages.runtimes.base import Images

WARM_UP = 3
"""Runs before those that count: the first ones allocate."""


@dataclass(frozen=True)
class OnnxRuntime:
    """Runs and measures ONNX files with onnxruntime's CPU provider.

    Files take one float32 input (batch, channels, height, width) of a fixed size; their first output is the
    logits (batch, classes). A file that cannot be used raises InputError with its path.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}

    def version(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def machine(self) -> dict[str, str]:
        return _machine.fingerprint()

    def width_multiple(self) -> int:
        return _machine.width_multiple(self.machine())

    def weight_bits(self) -> int:
        return _machine.weight_bits(self.machine())

    def supports(self, feature: str) -> bool:
        """Unstructured zeros save no time here, so `sparse` is not supported."""
        return feature in ("int8", "narrow", "resize", "substitute")

    def run(self, model: Path, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits (images, classes). Batches are cut to the file's own size, the last piece is padded."""
        with naming(model):
            session = _session.open_session(model, threads)
            shape = _session.input_shape(session)
            logits = [forward(session, images, shape) for batch in batches for images in chunks(batch, shape[0])]
            if not logits:
                raise InputError(f"{model}: there are no images to run")
            return np.concatenate(logits)

    def latency(
        self, models: Sequence[Path], threads: int, batch: int, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        """Milliseconds per model, round and run, on seeded normal images.

        Every round opens a fresh session per model, because sessions of one file differ in speed by where
        their memory lies. With one thread the clock is the CPU clock of the calling thread, in which all work
        then runs: waiting for a core does not count. With more threads, or where that clock is coarse, it is
        wall time.
        """
        clock = pick_clock(threads)
        times: list[list[list[float]]] = [[] for _ in models]
        for number in range(rounds):
            calls = [prepare(model, threads, batch, [seed, number]) for model in models]
            with collector_off():
                timed = take_turns(calls, runs, clock)
            for per_model, per_round in zip(times, timed, strict=True):
                per_model.append(per_round)
        return times

    def node_times(self, model: Path, threads: int, batch: int, runs: int) -> dict[str, float]:
        """Median kernel ms per node of the file, from onnxruntime's profiler (wall clock, 1 us steps)."""
        with naming(model), TemporaryDirectory() as folder:
            session = _session.open_session(model, threads, profile=Path(folder) / "profile")
            call = warm(session, batch, [0])
            for _ in range(runs):
                call()
            events = json.loads(Path(session.end_profiling()).read_text())
            per_node = node_durations(model, events)
        kept = {name: np.reshape(us, (WARM_UP + runs, -1))[WARM_UP:] for name, us in per_node.items()}
        return {name: float(np.median(us.sum(axis=1))) / 1e3 for name, us in kept.items()}

    def peak_memory(self, model: Path, threads: int, batch: int) -> float:
        """Median over three fresh processes, in MiB; some 50 MiB of it are Python, numpy and onnxruntime."""
        return float(np.median([fresh_peak(model, threads, batch) for _ in range(3)]))

    def optimised(self, model: Path) -> list[tuple[str, str]]:
        """(op type, node name) of the graph that onnxruntime executes: shows what was fused."""
        import onnx

        with naming(model), TemporaryDirectory() as folder:
            target = Path(folder) / "optimised.onnx"
            _session.open_session(model, 1, optimised=target)
            return [(n.op_type, n.name) for n in onnx.load(target, load_external_data=False).graph.node]


@contextmanager
def naming(model: Path) -> Iterator[None]:
    """Turns a refusal of onnxruntime into the one line that the user sees."""
    try:
        yield
    except _session.SessionError as error:
        raise InputError(f"{model}: onnxruntime cannot use this file: {error}") from error


def chunks(images: Images, size: int) -> Iterator[Images]:
    """Pieces of `size` images; the last one may be shorter."""
    return (images[start : start + size] for start in range(0, len(images), size))


def forward(session: Any, images: Images, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Logits of `images`, which are padded to `shape` for the run."""
    if images.shape[1:] != shape[1:]:
        raise _session.SessionError(f"it takes images of {shape[1:]}, got {images.shape[1:]}")
    padded = np.zeros(shape, np.float32)
    padded[: len(images)] = images
    logits: NDArray[np.float32] = execute(session, {session.get_inputs()[0].name: padded})
    if logits.ndim != 2:
        raise _session.SessionError(f"its first output has the shape {logits.shape}, allowed is (batch, classes)")
    return logits[: len(images)]


def execute(session: Any, feed: Mapping[str, Images]) -> Any:
    """The first output."""
    try:
        return session.run(None, feed)[0]
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise _session.SessionError(_session.one_line(error)) from error


def warm(session: Any, batch: int, seed: Sequence[int]) -> Callable[[], object]:
    """A call that runs `session` on the same seeded normal images every time; it has run `WARM_UP` times."""
    shape = _session.input_shape(session, batch)
    images = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    feed = {session.get_inputs()[0].name: images}
    for _ in range(WARM_UP):
        execute(session, feed)
    return lambda: session.run(None, feed)


def prepare(model: Path, threads: int, batch: int, seed: Sequence[int]) -> Callable[[], object]:
    """A fresh session as a call, warmed up."""
    with naming(model):
        return warm(_session.open_session(model, threads), batch, seed)


def fresh_peak(model: Path, threads: int, batch: int) -> float:
    """Peak MiB of one fresh process."""
    # -P keeps this folder, in which a file is named onnxruntime, off the import path of the script.
    script = [sys.executable, "-P", _session.__file__, str(model), str(threads), str(batch)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return float(json.loads(done.stdout)["peak"])
    line = next(chain(reversed(done.stderr.strip().splitlines()), ["it printed nothing"]))
    if done.returncode == _session.BAD_MODEL:
        raise InputError(f"{model}: onnxruntime cannot use this file: {line}")
    raise ParedownError(f"{model}: the process that measures memory ended with {done.returncode}: {line}")


PLUGIN = OnnxRuntime
