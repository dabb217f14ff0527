"""The result of a gate: one check per limit, and the verdict of all checks together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paredown.stages.products.interval import Ends, Interval

Verdict = Literal["pass", "fail", "inconclusive", "not comparable"]

WARNING = "warning: "
"""Starts the facts that a person should see whatever the verdict is."""

PASS, FAIL, INVALID, INCONCLUSIVE = 0, 1, 2, 3
"""Exit codes. INVALID: bad input or evidence that cannot be trusted, so that there is no verdict."""


@dataclass(frozen=True)
class BudgetCheck:
    """One limit against the model's value.

    `before` is the baseline's value (None where it does not matter), `after` the model's, `allowed` the most that the
    limit leaves (the least, where `least`), all in `unit`: `B`, `ms`, `%`, or empty for counts. `kind` says how sure
    the values are: read from the file, measured against the baseline, or measured here in absolute terms. `because` is
    one sentence for people, `layers` names what is responsible, worst first. Of what is measured, `after_ends` are the
    ends of the value's interval, `change` is the interval of the model over its baseline (of an accuracy, of their
    difference in points), as far as the verdict or a reader needs them.
    """

    name: str
    kind: Literal["deterministic", "relative", "absolute"]
    limit: str
    unit: str
    before: float | None
    after: float | None
    allowed: float | None
    verdict: Verdict
    because: str = ""
    layers: tuple[str, ...] = ()
    least: bool = False
    after_ends: Ends | None = None
    change: Interval | None = None

    @property
    def ends(self) -> Ends | None:
        """The ends of the interval that the verdict rests on: of the change where there is one, else of the value."""
        return self.change.ends if self.change else self.after_ends

    @property
    def ratio(self) -> float | None:
        """The model's value over the baseline's."""
        return self.after / self.before if self.before and self.after is not None else None


@dataclass(frozen=True)
class GateOutcome:
    """A gate's whole result: `model` and `baseline` are paths, `sha256` their digests by those names, `facts` lines on
    how it was measured, `tables` what was asked for beside the verdict, `seconds` what it took."""

    model: str
    baseline: str | None
    sha256: Mapping[str, str]
    checks: tuple[BudgetCheck, ...]
    machine: Mapping[str, str]
    runtime: str
    facts: tuple[str, ...] = ()
    tables: tuple["OutcomeTable", ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        return combined_verdict(check.verdict for check in self.checks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The facts that are warnings, without that word."""
        return tuple(fact.removeprefix(WARNING) for fact in self.facts if fact.startswith(WARNING))


@dataclass(frozen=True)
class OutcomeTable:
    """Rows of equal keys under a heading."""

    title: str
    rows: tuple[Mapping[str, Any], ...]


def combined_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Fail wins over inconclusive, which wins over pass. What cannot be compared says nothing, and so does no check."""
    distinct = set(verdicts)
    if "fail" in distinct:
        return "fail"
    return "pass" if distinct == {"pass"} else "inconclusive"


def exit_code(verdict: Verdict, undecided: Literal["pass", "fail", "inconclusive"] = "inconclusive") -> int:
    """The exit code of a verdict; `undecided` is the one that an inconclusive gate counts as."""
    if verdict in ("pass", "fail"):
        return PASS if verdict == "pass" else FAIL
    return {"pass": PASS, "fail": FAIL, "inconclusive": INCONCLUSIVE}[undecided]
