"""OpenVINO on the CPU, from the same ONNX files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from paredown.stages.runtimes.base import Images, Load, Runtime
from paredown.stages.runtimes.support import openvino_session
from paredown.stages.runtimes.support.in_process import (
    WARM_UP,
    check_onnx_file,
    fresh_peak,
    logits,
    naming_the_file,
    peak_memory,
)
from paredown.stages.runtimes.support.machine import ThisMachine
from paredown.stages.runtimes.support.ort_profile import ANCHORS, FileNodes, names_of
from paredown.stages.runtimes.support.timing import repeat, rounds_in_turns

NAME = "openvino"

BLOCKS = 3
"""Times that a file is compiled anew to be profiled."""


@dataclass(frozen=True)
class OpenVino(ThisMachine, Runtime):
    """Runs and measures ONNX files with OpenVINO's CPU plugin, always in fp32 where the file says so.

    Files take one float32 input (batch, channels, height, width); their first output is the logits (batch,
    classes). A file that cannot be used raises InputError with its path.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {"openvino": "openvino"}

    def version(self) -> str:
        return f"openvino {metadata.version('openvino')}"

    def supports(self, feature: str) -> bool:
        """Zeros save no time here, so `sparse` is not supported; files in a container are."""
        return feature in ("int8", "narrow", "resize", "substitute", "gzip", "cold")

    def lower(self, model: ModelProto) -> ModelProto:
        """The portable form itself."""
        return model

    def run(self, model: Path, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits (images, classes). Batches are cut to the file's own size, the last piece is padded."""
        with usable_model(model):
            compiled, shape = openvino_session.compile_file(model, threads)
            return logits(model, batches, shape, lambda images: first_output(compiled, images))

    def latency(
        self, models: Sequence[Path], load: Load, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        """Milliseconds per model, round and run, on seeded normal images; every round compiles the models anew.

        With one thread the clock is the CPU clock of the calling thread. A synchronous request runs in it, and
        with one thread nothing runs elsewhere: over 200 runs this clock and that of the whole process differed by
        less than 0.5 %, idle and under load, where wall time read up to three times as much. With more threads
        the others work too, and the clock is wall time.
        """

        def prepare(model: Path, number: int) -> Callable[[], object]:
            with usable_model(model):
                made = warm_request(openvino_session.compile_file(model, load.threads, load.batch), [seed, number])
            return lambda: made.infer()

        return rounds_in_turns(prepare, models, rounds, runs, load)

    def node_times(self, model: Path, load: Load, runs: int) -> dict[str, float]:
        """Mean ms per node of the file over at least `runs` runs, from OpenVINO's profile (wall clock, 1 us steps).

        OpenVINO tells only means since a file was compiled, so it is compiled anew `BLOCKS` times, and the median
        over those means is taken.
        """
        with usable_model(model):
            names, each = names_of(model), -(-runs // BLOCKS)
            blocks = [block_times(model, load, each, names) for _ in range(BLOCKS)]
        nodes = {name for block in blocks for name in block}
        return {name: float(np.median([block.get(name, 0.0) for block in blocks])) for name in sorted(nodes)}

    def peak_memory(self, model: Path, load: Load) -> float:
        """Median over three fresh processes, in MiB; some 100 MiB of it are Python, numpy and OpenVINO."""
        with usable_model(model):
            return peak_memory(openvino_session.__file__, NAME, model, load)

    def process_peak(self, model: Path, load: Load) -> float:
        """As in `peak_memory`, of one process."""
        with usable_model(model):
            return fresh_peak(openvino_session.__file__, NAME, model, load)

    def executed(self, model: Path) -> list[tuple[str, str]]:
        """(kernel, node name) of all that OpenVINO executes: shows what was fused, and what runs in int8."""
        with usable_model(model):
            compiled, _ = openvino_session.compile_file(model, 1)
            names = names_of(model)
        facts = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
        return [(fact["primitiveType"].astype(str), node_name_in_file(fact, names)) for fact in facts]


@contextmanager
def usable_model(model: Path) -> Iterator[None]:
    """Checks the file, and turns a refusal of it into the one line that the user sees."""
    with naming_the_file(model, NAME):
        check_onnx_file(model)
        yield


def first_output(compiled: Any, images: Images) -> NDArray[np.float32]:
    """What the file makes of `images`."""
    made = openvino_session.infer_request(compiled, images)
    made.infer()
    return np.array(made.get_output_tensor(0).data)


def warm_request(opened: tuple[Any, tuple[int, ...]], seed: Sequence[int]) -> Any:
    """A request for the same seeded normal images every time; it has run `WARM_UP` times."""
    compiled, shape = opened
    made = openvino_session.infer_request(
        compiled, np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    )
    for _ in range(WARM_UP):
        made.infer()
    return made


def block_times(model: Path, load: Load, runs: int, names: FileNodes) -> dict[str, float]:
    """Mean ms per node of the file over `runs` runs of a file that was just compiled."""
    opened = openvino_session.compile_file(model, load.threads, load.batch, profile=True)
    executed = {op.get_friendly_name(): op.get_rt_info() for op in opened[0].get_runtime_model().get_ops()}
    made = warm_request(opened, [0])
    before = profile_means(made)
    repeat(made.infer, runs, load)
    times: dict[str, float] = {}
    for node, mean in profile_means(made).items():
        name = node_name_in_file(executed[node], names)
        times[name] = times.get(name, 0.0) + without_warm_up(before.get(node, mean), mean, runs) / 1e3
    return times


def profile_means(made: Any) -> dict[str, int]:
    """Microseconds of every executed node: the mean over all runs so far, cut to whole ones."""
    status = openvino_session.import_openvino().ProfilingInfo.Status.EXECUTED
    return {i.node_name: i.real_time.microseconds for i in made.get_profiling_info() if i.status == status}


def without_warm_up(before: float, after: float, runs: int) -> float:
    """The mean of the last `runs` runs: the half stands for what is lost where each run and each mean is cut."""
    total = (after + 0.5) * (WARM_UP + runs) - (before + 0.5) * WARM_UP
    return max(0.0, total / runs + 0.5)


def node_name_in_file(executed: Mapping[str, Any], names: FileNodes) -> str:
    """The name in the file of an executed node (of the anchor of fused ones), or `+<op type>` of an inserted one."""
    originals = executed["originalLayersNames"].astype(str).split(",")
    nodes = [node for name in originals if (node := node_in_file(name, names))]
    anchors = [node for node in nodes if node.op_type in ANCHORS]
    return next((str(node.name) for node in [*anchors, *nodes]), f"+{executed['layerType'].astype(str)}")


def node_in_file(original: str, names: FileNodes) -> Any:
    """The file's node; OpenVINO splits off the bias, and names the last node by the output of the file."""
    name = original.removesuffix("/WithoutBiases")
    return names.nodes.get(name) or names.producers.get(name)


PLUGIN = OpenVino
