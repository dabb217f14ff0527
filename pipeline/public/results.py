"""What the calls of `paredown` return: frozen objects, so that nobody has to read files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paredown.models.onnx.facts import ModelFacts
from paredown.pipeline.artifact.artifact import Artifact
from paredown.pipeline.artifact.description import description_data, description_lines
from paredown.stages.products.embedded import EmbeddedFacts
from paredown.stages.products.interval import CONFIDENCE
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.plan import Plan


@dataclass(frozen=True)
class RunResult:
    """What a run left. Paths are None for what it did not get to.

    `checks` are the measures of original and artifact against the recipe's limits; before there is an artifact, of
    original and plan. `refusal` is the line with which a limit ended the run, empty where none did; `notes` are
    warnings of stages; `seconds` maps stages to the time that their products took to make. `confirmed` is, of a run
    that follows a lock, the line that says that the artifact is the lock's. `confidence` is that of the checks'
    intervals. `failure` is what kept lock, report or
    model card from being written, beside a refusal; without one it is raised. Under torchrun rank 0 alone has all of
    it, other ranks the refusal only.
    """

    name: str
    folder: Path
    checks: tuple[MeasureCheck, ...] = ()
    plan: Plan | None = None
    artifact: Path | None = None
    report: Path | None = None
    model_card: Path | None = None
    lock: Path | None = None
    refusal: str = ""
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    confirmed: str = ""
    confidence: float = CONFIDENCE
    failure: Exception | None = None

    @property
    def holds(self) -> bool:
        """Whether there is an artifact, and every limit was measured to hold."""
        return self.artifact is not None and not self.refusal and all(check.holds is not False for check in self.checks)


@dataclass(frozen=True)
class PlanResult:
    """What a search found: `plan.choice` maps sites to candidates, `plan.predicted` and `plan.measured` are its costs.

    `refusal` says why no plan holds the limits, with what is possible at best; empty where one does. The plan is then
    the nearest one.
    """

    name: str
    folder: Path
    plan: Plan
    refusal: str
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the plan was measured within every limit of the search."""
        return not self.refusal


@dataclass(frozen=True)
class CheckResult:
    """What was found out about a recipe before any work: `lines` say what holds, `warnings` what gains nothing."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What an ONNX file is. `embedded` is what it says of itself where paredown made it, `evidence` the manifest beside
    it where that describes this very file; `warnings` say what does not fit."""

    artifact: Artifact
    facts: ModelFacts

    @property
    def file(self) -> Path:
        return self.artifact.file

    @property
    def sha256(self) -> str:
        return self.artifact.sha256

    @property
    def embedded(self) -> EmbeddedFacts | None:
        return self.artifact.facts

    @property
    def evidence(self) -> Manifest | None:
        return self.artifact.manifest

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.artifact.warnings

    def as_data(self) -> dict[str, Any]:
        """All of it as plain data: what `paredown show --json` prints."""
        return description_data(self.artifact, self.facts)

    def __str__(self) -> str:
        return "\n".join(f"{label}: {words}" for label, words in description_lines(self.artifact, self.facts))
