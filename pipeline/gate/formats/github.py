"""The outcome as workflow commands of GitHub Actions, which it shows as annotations."""

from collections.abc import Iterator, Sequence
from typing import Literal

from paredown.models.printable import printable
from paredown.pipeline.gate.formats.table import as_table
from paredown.pipeline.gate.formats.wording import check_sentence, headline, shortened_text
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome

Level = Literal["error", "warning", "notice"]

MOST = 10
"""Annotations of one level that GitHub shows of a step."""


def as_github_commands(outcome: GateOutcome) -> str:
    """The table in a group of the log, then an error per check that fails, a warning per undecided one and per line
    that warns, or a notice."""
    lines = ["::group::paredown gate", *as_table(outcome).splitlines(), "::endgroup::"]
    failed = [check for check in outcome.checks if check.verdict == "fail"]
    open_ = [check for check in outcome.checks if check.verdict in ("inconclusive", "not comparable")]
    lines += [*_listed("error", failed), *_listed("warning", open_)]
    room = MOST - min(len(open_), MOST)
    lines += [workflow_command("warning", "gate: warning", printable(line, 1000)) for line in outcome.warnings[:room]]
    if not failed and not open_:
        lines.append(workflow_command("notice", "gate: pass", headline(outcome)))
    return "\n".join(lines) + "\n"


def _listed(level: Level, checks: Sequence[BudgetCheck]) -> Iterator[str]:
    """One command per check, as many as are shown: the last one holds all the rest."""
    alone = checks if len(checks) <= MOST else checks[: MOST - 1]
    for check in alone:
        yield workflow_command(level, f"gate: {shortened_text(check.name)} {check.verdict}", check_sentence(check))
    if rest := checks[len(alone) :]:
        yield workflow_command(level, f"gate: {len(rest):,} more", _folded(rest))


def _folded(checks: Sequence[BudgetCheck], most: int = 50) -> str:
    """A line each, shortened: GitHub cuts long messages."""
    lines = [printable(check_sentence(check), 200) for check in checks[:most]]
    return "\n".join(lines + ([f"and {len(checks) - most:,} more"] if checks[most:] else []))


def workflow_command(level: Level, title: str, message: str) -> str:
    """One workflow command, escaped as GitHub decodes it."""
    data = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    value = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title={value.replace(':', '%3A').replace(',', '%2C')}::{data}"
