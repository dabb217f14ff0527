"""The report's section on other runtimes: how original and artifact compare where the plan was not made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paredown.pipeline.products import Run
from paredown.pipeline.svg import short


@dataclass(frozen=True)
class Line:
    """One runtime: p50 of the original in ms, and the artifact's paired ratio to it."""

    runtime: str
    before: float
    ratio: float

    @property
    def after(self) -> float:
        """The artifact's p50 in ms, as the table of limits tells it: the ratio times the original's."""
        return self.before * self.ratio


def lines(run: Run) -> tuple[Line, ...]:
    """The target's runtime first, then the others; nothing where the recipe compares none."""
    manifest = run.document("artifact")
    return tuple(_lines(manifest)) if manifest.get("compare") else ()


def _lines(manifest: Any) -> Iterator[Line]:
    target = manifest["baseline"]
    yield Line(target["runtime"], target["latency"]["p50"], manifest["ratios"]["latency_p50"])
    for other in manifest["compare"]:
        yield Line(other["runtime"], other["before"]["p50"], other["ratio"])


def words(compared: tuple[Line, ...]) -> str:
    """Where the artifact is fastest, and what the table does not show."""
    fastest = min(compared, key=lambda line: line.after)
    return (
        f"The artifact is fastest on {fastest.runtime}: {short(fastest.after)} ms. The plan was made for the target's "
        f"runtime, {compared[0].runtime}; one made for another may be faster there. On each of them original and "
        "artifact took turns, with the target's threads and batch."
    )
