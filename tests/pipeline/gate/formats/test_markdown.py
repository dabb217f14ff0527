"""The Markdown form shows names as they are, and is never cut in the middle."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from paredown.pipeline.gate.formats.markdown import COMMENT, as_markdown, escaped_markdown
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome, OutcomeTable

NAMES = [
    "a|b`c`*d*_e_",
    "<script>alert(1)</script> <b>&amp;</b>",
    "[link](http://x.y) ![i](j) <http://x.y>",
    "# head",
    "1. one",
    "- item",
    "--- ",
    "> quote\n\nnew | row\n",
    "~~gone~~ :smile: $x$ \\| \\",
    "features.3_1.conv.weight",
    "</details>",
    "é 模型",
]


def rendered(text: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page)).replace("\u200b", "")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name: str) -> None:
    shown = " ".join(name.replace("\n", "\\n").split())
    for before, after in (("", ""), ("* ", ""), ("| a |\n| --- |\n| ", " |")):
        page = rendered(before + escaped_markdown(name) + after)
        assert " ".join(text_of(page).split()).removeprefix("a ") == shown
        assert set(re.findall(r"<(\w+)", page)) <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
        assert page.count("<td>") <= 1


def test_nobody_is_mentioned_and_nothing_is_linked() -> None:
    text = escaped_markdown("@someone #12 www.example.org https://example.org")
    assert not re.search(r"@\w|#\d|www\.|://\w", text.replace("&#", "")) or "&#64;&#8203;someone" in text
    assert "www." not in text
    assert "https:" not in text


def outcome(checks: int, rows: int, name: str = "layer") -> GateOutcome:
    failing = tuple(
        BudgetCheck(f"ops {name}{i}", "deterministic", "0", "", 0, i, 0, "fail" if i % 2 else "pass", "", (name,))
        for i in range(checks)
    )
    tables = (OutcomeTable("bytes by layer", tuple({"layer": f"{name}{i}", "bytes": i} for i in range(rows))),)
    return GateOutcome("m.onnx", None, {"m.onnx": "ab"}, failing, {"cpu": "X"}, "onnxruntime 1", ("said",), tables)


def test_verdict_table_reasons_and_details() -> None:
    page = rendered(as_markdown(outcome(2, 2)))
    assert "<h3>Gate: fail</h3>" in page
    assert page.count("<tr>") == 3 + 3
    assert page.count("<details>") == 2
    assert "ops layer1: 1 over 0 (limit 0); layers: layer" in text_of(page)
    assert "said" in page
    assert "did not fit" not in page


@pytest.mark.parametrize("name", ["layer", "é|" * 50], ids=["short", "long"])
@pytest.mark.parametrize(("checks", "rows"), [(3, 5000), (100, 5000), (3000, 10)])
def test_it_fits_a_comment_and_is_complete(checks: int, rows: int, name: str) -> None:
    text = as_markdown(outcome(checks, rows, name))
    assert len(text.encode()) <= COMMENT
    assert "did not fit" in text
    assert text.count("<details>") == text.count("</details>")
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    assert "**fail**" in text


def test_it_says_the_verdict_in_little_room_and_nothing_in_none() -> None:
    assert as_markdown(outcome(9, 9), 200) == "**Gate: fail**. More did not fit here; the JSON form has everything.\n"
    assert as_markdown(outcome(9, 9), 20) == ""
