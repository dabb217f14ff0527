"""What a runtime must be able to do. A file in this folder is a runtime; its name is its name in the recipe."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from paredown.stages.limits import Caches, Target
from paredown.stages.products.evidence import LatencyEvidence

Images = NDArray[np.float32]
"""(batch, channels, height, width), normalised as the model expects."""


@dataclass(frozen=True)
class Load:
    """What one inference is: `batch` images, computed by `threads` threads, which find the caches `hot` from the run
    before or `cold`, other memory having been read since."""

    threads: int
    batch: int
    caches: Caches = "cold"

    @classmethod
    def of(cls, target: Target) -> "Load":
        """The threads, the batch and the caches of a recipe's or budgets file's target."""
        return cls(target.threads, target.batch, target.caches)


class Runtime(ABC):
    """Runs ONNX files and measures them. Implementations are frozen and hold no sessions.

    `REQUIRES` maps importable module names to the extra (`pip install "paredown[extra]"`) that brings them. A runtime
    whose packages need an interpreter of their own also says `SIDECAR: ClassVar[str]`, a name in `SIDECARS`
    (`sidecars/registry.py`).
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    SIDECAR: ClassVar[str] = ""

    @abstractmethod
    def version(self) -> str:
        """For evidence, such as `onnxruntime 1.31.0`."""

    @abstractmethod
    def width_multiple(self) -> int:
        """Channel counts that this machine computes fast are multiples of this."""

    @abstractmethod
    def weight_bits(self) -> int:
        """Bits of int8 weights that are exact here: 7 where 8-bit products would saturate (x86 without VNNI)."""

    @abstractmethod
    def lower(self, model: ModelProto) -> ModelProto:
        """A portable model (opset 20, QDQ) in the form that this runtime takes; its layers keep their names. The very
        same object where that is the portable form."""

    @abstractmethod
    def run(self, model: Path, batches: Iterable[Images], threads: int) -> NDArray[np.float32]:
        """Logits (images, classes) of all batches. The last batch may be padded by the runtime."""

    @abstractmethod
    def latency(
        self, models: Sequence[Path], load: Load, rounds: int, runs: int, seed: int = 0
    ) -> list[list[list[float]]]:
        """Milliseconds per model, round and run; the models take turns (ABBA) within every round, with the caches that
        `load` wants."""

    @abstractmethod
    def node_times(self, model: Path, load: Load, runs: int) -> dict[str, float]:
        """Median ms per executed node, by the node's name in the file (fused nodes under the name of their anchor);
        nodes that the runtime itself inserted go under `+<op type>`, or `+<op type>@<name>` where it is known which
        node needs them."""

    @abstractmethod
    def peak_memory(self, model: Path, load: Load) -> float:
        """MiB of peak resident memory of a fresh process that loads the model and runs it once."""

    def process_peak(self, model: Path, load: Load) -> float:
        """The same of one process alone, for intervals; `peak_memory` may be the median of several."""
        return self.peak_memory(model, load)

    @abstractmethod
    def supports(self, feature: str) -> bool:
        """Whether what transforms name as their `FEATURE` pays or runs here.

        `int8`; `narrow`, fewer channels; `resize`, a smaller input; `substitute`, other blocks; `sparse` where zeros in
        weights save time. And whether files in a container can be opened, `gzip`, and times taken with `cold` caches.
        """

    def executed_operators(self, model: Path) -> Mapping[str, str]:
        """First value of nodes of the file to the operator that is executed in their place, as far as the runtime
        tells: where int8 is float is seen there. Raises InputError where it cannot load the file."""
        return {}

    @abstractmethod
    def machine(self) -> dict[str, str]:
        """The fingerprint of what latencies here depend on: CPU, flags, cores, system."""


def summarize_latency(times: list[list[float]]) -> LatencyEvidence:
    """One model's (round, run) milliseconds as evidence; `spread` is the p50's range over rounds."""
    flat = np.array([t for round_ in times for t in round_])
    medians = [float(np.median(round_)) for round_ in times]
    return LatencyEvidence(
        p50=float(np.median(flat)),
        p95=float(np.percentile(flat, 95)),
        spread=max(medians) - min(medians),
        runs=len(flat),
        rounds=len(times),
    )


def latency_ratio(a: list[list[float]], b: list[list[float]]) -> float:
    """p50 of `a` over p50 of `b`: the median over rounds of the paired ratios, so that drift cancels."""
    return float(np.median([np.median(x) / np.median(y) for x, y in zip(a, b, strict=True)]))
