"""What an artifact's manifest promises, each promise with what was found of it here, and all of them together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from paredown.pipeline.gate.outcome import Verdict, combined_verdict

Finding = Verdict | Literal["not checked", "no limit"]
"""A verdict; or that something is missing to reach one; or that the manifest promises nothing and the value is told."""

_VERDICTS: Mapping[Finding, Verdict] = {"pass": "pass", "fail": "fail"}
"""What a finding counts as; all others leave the verdict open."""

Unit = Literal["", "x", "ms", "MiB", "%", "points"]


@dataclass(frozen=True)
class Promise:
    """One promise of a manifest, and what was found.

    `limit` is the promise as the recipe writes it, empty where there is none. `promised`, `value` and `ends` are in
    `unit`, that of the limit: the most that is promised, what was measured here, and the interval that the finding
    rests on (None where the value is exact). `before` and `after` are of the original and of the artifact, measured
    here, in `measure`; `told` is the artifact's value as the manifest has it, in `unit`. `because` is a sentence for
    people.
    """

    name: str
    finding: Finding
    limit: str = ""
    unit: Unit = ""
    promised: float | None = None
    value: float | None = None
    ends: tuple[float, float] | None = None
    told: float | None = None
    measure: Unit = ""
    before: float | None = None
    after: float | None = None
    because: str = ""

    @property
    def counts(self) -> bool:
        """Whether the verdict of all depends on it: not where nothing is promised, and not where nobody could check it
        with the files alone."""
        return self.finding != "no limit" and not (self.finding == "not checked" and not self.limit)


@dataclass(frozen=True)
class Verification:
    """What became of an artifact's promises: `artifact` and `original` (None: it was not there) are paths, `machine`
    and `runtime` those of this measurement, `facts` lines on how it was made, `seconds` what it took."""

    artifact: str
    original: str | None
    sha256: str
    promises: tuple[Promise, ...]
    machine: Mapping[str, str]
    runtime: str
    facts: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """`fail` where a promise is broken; `inconclusive` where a limit could not be checked or decided here."""
        found = (_VERDICTS.get(one.finding, "inconclusive") for one in self.promises if one.counts)
        return combined_verdict(found)

    @property
    def broken(self) -> tuple[Promise, ...]:
        """The promises that do not hold."""
        return tuple(one for one in self.promises if one.finding == "fail")

    @property
    def holds(self) -> bool:
        """Whether every promise was checked, and holds."""
        return self.verdict == "pass"
