"""The outcome as Markdown, for comments and for step summaries."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paredown.models.printable import printable
from paredown.pipeline.gate.amounts import machine_in_words
from paredown.pipeline.gate.formats.wording import (
    change_cell,
    check_sentence,
    headline,
    limit_in_words,
    model_cell,
    shortened_text,
    value_cell,
    value_with_unit,
)
from paredown.pipeline.gate.outcome import WARNING, BudgetCheck, GateOutcome, OutcomeTable

COMMENT = 65_536
"""Characters that GitHub takes in a comment."""
LEFT_OUT = "More did not fit here; the JSON form has everything."
_SPECIAL = re.compile(
    r"[^\w .,;:()/+%=-]"  # all that can be markup anywhere
    r"|(?<![a-z0-9])_|_(?![a-z0-9])|:(?! )"  # emphasis; links and emoji
    r"|^[-+=]|(?<=^\d)[.)](?= )|(?<=^\d\d)[.)](?= )|(?<=^\d{3})[.)](?= )"  # lists and headings
    r"|(?<=\bwww)\.",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class DetailLimits:
    """How much of the details is shown: rows of a table, checks, and further facts."""

    rows: int
    checks: int
    facts: int


STEPS = (
    DetailLimits(10**6, 10**6, 10**6),
    DetailLimits(15, 10**6, 30),
    DetailLimits(0, 10**6, 10),
    DetailLimits(0, 200, 10),
    DetailLimits(0, 50, 5),
    DetailLimits(0, 12, 3),
    DetailLimits(0, 3, 1),
)
"""What is left out first, until the text fits: rows of tables, then the tables and facts, then checks that pass."""


def as_markdown(outcome: GateOutcome, most: int = COMMENT) -> str:
    """The verdict, every check, and the rest in sections that fold; in UTF-8 at most `most` bytes, and complete in its
    form also where something had to be left out. Empty where nothing fits."""
    for step in STEPS:
        text = "\n\n".join(_blocks(outcome, step)) + "\n"
        if len(text.encode()) <= most:
            return text
    verdict_alone = f"**Gate: {outcome.verdict}**. {LEFT_OUT}\n"
    return verdict_alone if len(verdict_alone.encode()) <= most else ""


def escaped_markdown(text: str, longest: int = 1000) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table cell, no link and no mention is made of it."""

    def entity(match: re.Match[str]) -> str:
        return f"&#{ord(match[0])};" if match[0].isascii() else match[0]

    return _SPECIAL.sub(entity, printable(text, longest)).replace("&#64;", "&#64;&#8203;")


def _blocks(outcome: GateOutcome, most: DetailLimits) -> Iterator[str]:
    yield f"### Gate: {outcome.verdict}"
    yield escaped_markdown(headline(outcome).partition(": ")[2])
    shown = _chosen(outcome.checks, most.checks)
    yield _grid(
        ("check", "baseline", "model", "change", "limit", "verdict"), [_row(check) for check in shown], "lrrrll"
    )
    if reasons := [f"* {escaped_markdown(check_sentence(check))}" for check in shown if check.verdict != "pass"]:
        yield "\n".join(reasons)
    if warnings := [f"* **warning**: {escaped_markdown(line)}" for line in outcome.warnings[: most.facts]]:
        yield "\n".join(warnings)
    facts = list(_facts(outcome))
    left_out = len(shown) < len(outcome.checks) or len(facts) > most.facts or len(outcome.warnings) > most.facts
    yield _folded("How it was measured", "\n".join(f"* {escaped_markdown(fact)}" for fact in facts[: most.facts]))
    for one in outcome.tables:
        left_out |= len(one.rows) > most.rows
        if rows := one.rows[: most.rows]:
            yield _folded(one.title, _listed(OutcomeTable(one.title, rows)))
    if left_out:
        yield LEFT_OUT


def _chosen(checks: Sequence[BudgetCheck], most: int) -> Sequence[BudgetCheck]:
    """Those that fail first, where not all fit."""
    if len(checks) <= most:
        return checks
    return sorted(checks, key=lambda check: ("fail", "inconclusive", "not comparable", "pass").index(check.verdict))[
        :most
    ]


def _facts(outcome: GateOutcome) -> Iterator[str]:
    yield from (fact for fact in outcome.facts if not fact.startswith(WARNING))
    if outcome.runtime:
        yield f"runtime: {outcome.runtime}"
        yield f"machine: {machine_in_words(outcome.machine)}"
    yield from (f"sha256 of {name}: {digest}" for name, digest in sorted(outcome.sha256.items()))
    yield f"{outcome.seconds:.1f} s"


def _row(check: BudgetCheck) -> Sequence[str]:
    values = value_with_unit(check.before, check.unit), model_cell(check)
    verdict = check.verdict if check.verdict == "pass" else f"**{check.verdict}**"
    return (
        *map(escaped_markdown, (shortened_text(check.name), *values, change_cell(check), limit_in_words(check))),
        verdict,
    )


def _listed(one: OutcomeTable) -> str:
    keys = tuple(one.rows[0])
    sides = "".join("r" if any(isinstance(row.get(key), int | float) for row in one.rows) else "l" for key in keys)
    return _grid(
        [escaped_markdown(key) for key in keys],
        [[escaped_markdown(value_cell(key, row.get(key))) for key in keys] for row in one.rows],
        sides,
    )


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, rule, *rows))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escaped_markdown(title)}</summary>\n\n{body}\n\n</details>"
