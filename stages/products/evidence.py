"""What was measured, on what, and how: the JSON that reports, manifests and gates read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference, from `runs` timed runs in `rounds` interleaved rounds.

    With one thread they are CPU time of the thread that runs it, which neighbours on the machine do not disturb;
    with several threads they are wall-clock time. `spread` is the range of the p50 over the rounds.
    """

    p50: float
    p95: float
    spread: float
    runs: int
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """Original and artifact, timed in turns on one runtime; `ratio` is the artifact's p50 over the original's."""

    runtime: str
    before: Latency
    after: Latency
    ratio: float


@dataclass(frozen=True)
class Scores:
    """How often one model is right: `accuracy` maps a split (`validation`, `test`) to points (0 to 100), `images` maps
    it to its number of images."""

    accuracy: dict[str, float]
    images: dict[str, int]


@dataclass(frozen=True)
class Evidence:
    """One model, measured on the runtime that ships.

    Sizes and memory in MiB; `latency` is None where it was not measured. `accuracy` and `images` as in `Scores`.
    """

    latency: Latency | None
    size: float
    peak_memory: float
    accuracy: dict[str, float]
    images: dict[str, int]
    runtime: str
    machine: dict[str, str]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        raw: dict[str, Any] = json.loads(path.read_text())
        latency = raw.pop("latency")
        return cls(latency=Latency(**latency) if latency else None, **raw)
