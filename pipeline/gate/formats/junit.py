"""The outcome as JUnit's XML, which CI systems show: one test case per check."""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from paredown.models.printable import printable
from paredown.pipeline.gate.formats.wording import check_sentence, headline, missed_by, shortened_text
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome

LONGEST = 100_000
"""Characters of what a case says in full."""


def as_junit(outcome: GateOutcome) -> str:
    """`failure` for what fails, `skipped` for what is undecided or cannot be compared here."""
    verdicts = [check.verdict for check in outcome.checks]
    failures = verdicts.count("fail")
    counts = {
        "tests": str(len(verdicts)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(len(verdicts) - failures - verdicts.count("pass")),
        "time": f"{outcome.seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": "paredown gate", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": shortened_text(outcome.model), **counts})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(outcome):
        ET.SubElement(properties, "property", {"name": shortened_text(name), "value": printable(value, LONGEST)})
    for number in range(len(outcome.checks)):
        _case(suite, outcome, number)
    ET.SubElement(suite, "system-out").text = "\n".join(
        [headline(outcome), *(printable(fact, LONGEST) for fact in outcome.facts)]
    )
    ET.indent(root)
    # Some CI systems read commands out of whatever is printed: `##` is written so that they do not.
    text = ET.tostring(root, encoding="unicode").replace("##", "&#35;&#35;")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _properties(outcome: GateOutcome) -> Iterator[tuple[str, str]]:
    yield "verdict", outcome.verdict
    yield "model", outcome.model
    yield "baseline", outcome.baseline or ""
    yield "runtime", outcome.runtime
    yield from ((f"machine.{name}", value) for name, value in sorted(outcome.machine.items()))
    yield from ((f"sha256.{name}", value) for name, value in sorted(outcome.sha256.items()))


def _case(suite: ET.Element, outcome: GateOutcome, number: int) -> None:
    """Names are unique, also of two limits on one budget: some readers keep one case per name."""
    check = outcome.checks[number]
    twins = [one for one in outcome.checks[:number] if (one.name, one.limit) == (check.name, check.limit)]
    again = f" ({len(twins) + 1})" if twins else ""
    name = f"{shortened_text(check.name)}, limit {shortened_text(check.limit)}{again}"
    case = ET.SubElement(suite, "testcase", {"classname": f"gate.{check.kind}", "name": name, "time": "0"})
    if check.verdict == "fail":
        ET.SubElement(case, "failure", {"message": check_sentence(check), "type": check.kind}).text = _whole(check)
    elif check.verdict != "pass":
        ET.SubElement(case, "skipped", {"message": f"{check.verdict}: {check_sentence(check)}"})


def _whole(check: BudgetCheck) -> str:
    parts = [check_sentence(check), missed_by(check), *check.layers]
    return "\n".join(printable(part, LONGEST) for part in parts if part)
