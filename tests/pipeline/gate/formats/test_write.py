"""The forms of an outcome are read back by what reads them in CI: parsers of XML and JSON, and GitHub's runner."""

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.commands import gate
from paredown.pipeline.gate.formats.write import FORMATS, SUMMARY, as_json, form_of, save_as, write_step_summary
from paredown.pipeline.gate.outcome import BudgetCheck, GateOutcome, OutcomeTable, Verdict

HOSTILE = "a\x1b[31m]]><b & \"q' | `c` %0A,:\r\n::add-mask::x ##vso[task.x]\x00\ud800\ufffe\u202e é"


def check(name: str = "bytes", verdict: Verdict = "pass", layers: Sequence[str] = (), because: str = "") -> BudgetCheck:
    kind: Literal["deterministic"] = "deterministic"
    return BudgetCheck(name, kind, "1.0x", "B", 2**20, 3 * 2**19, 2**20, verdict, because, tuple(layers))


def outcome(*checks: BudgetCheck, **more: object) -> GateOutcome:
    plain = GateOutcome("m.onnx", "b.onnx", {"m.onnx": "ab", "b.onnx": "cd"}, checks, {"cpu": "X 1"}, "onnxruntime 1")
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.fixture
def hostile() -> GateOutcome:
    layers = [f"{HOSTILE} (Conv)", "x" * 10**5]
    checks = [check(HOSTILE, v, layers, HOSTILE) for v in ("fail", "inconclusive", "not comparable", "pass")]
    table = OutcomeTable(HOSTILE, ({HOSTILE: HOSTILE, "more bytes": 1.0},))
    return GateOutcome(
        HOSTILE, HOSTILE, {HOSTILE: "ab"}, tuple(checks), {HOSTILE: HOSTILE}, HOSTILE, (HOSTILE,), (table,)
    )


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """(command, properties, message) of every line that GitHub's runner takes for a command, decoded as it does."""
    found = []
    for line in text.splitlines():
        assert "##" not in line or line.startswith("::")
        if match := re.match(r"\s*::([\w-]+)(?: ([^:]*))?::(.*)", line):
            pairs = [pair.split("=", 1) for pair in (match[2] or "").split(",") if pair]
            read = {key: value.replace("%3A", ":").replace("%2C", ",") for key, value in pairs}
            found.append((match[1], {key: decoded(value) for key, value in read.items()}, decoded(match[3])))
    return found


def decoded(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_the_verb_offers_every_form() -> None:
    assert tuple(FORMATS) == gate.FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_takes_names_of_strangers(form: str, hostile: GateOutcome) -> None:
    text = FORMATS[form](hostile)
    text.encode()
    assert not set(text) & {"\x1b", "\x00", "\r", "\u202e", "\ufffe"}
    assert not any(line.lstrip().startswith("::add-mask") for line in text.splitlines())
    assert form == "github" or "##vso" not in text
    assert len(text) < 10**6


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_takes_a_gate_without_checks_or_baseline(form: str) -> None:
    assert "inconclusive" in FORMATS[form](GateOutcome("m.onnx", None, {}, (), {}, ""))


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_says_what_failed_by_how_much_and_where(form: str) -> None:
    failing = replace(check("bytes", "fail", ["features.3 (Conv, fp32)"]), because="0.5 MiB over its limit")
    text = " ".join(FORMATS[form](outcome(failing, check("opset"))).split())
    assert "0.5 MiB over" in text or form == "json"
    assert all(word in text for word in ("bytes", "fail", "features.3 (Conv, fp32)"))


def test_json_has_everything() -> None:
    written = outcome(
        check("a", "fail", ["x"], "why"), tables=(OutcomeTable("t", ({"layer": "x", "ms": 1.5},)),), seconds=2.5
    )
    read = json.loads(as_json(written))
    assert (read["version"], read["verdict"], read["seconds"]) == (1, "fail", 2.5)
    assert read["checks"][0] | {"verdict": "fail", "ratio": 1.5, "layers": ["x"], "because": "why"} == read["checks"][0]
    assert read["tables"] == [{"title": "t", "rows": [{"layer": "x", "ms": 1.5}]}]
    assert list(read) == sorted(read)


def test_json_keeps_names_as_they_are(hostile: GateOutcome) -> None:
    read = json.loads(as_json(hostile))
    assert read["model"] == read["checks"][0]["name"] == HOSTILE
    assert read["checks"][0]["layers"][1] == "x" * 10**5


def test_json_has_no_numbers_that_json_has_not() -> None:
    read = json.loads(as_json(outcome(replace(check(), after=float("nan"), allowed=float("inf")))), parse_constant=None)
    assert (read["checks"][0]["after"], read["checks"][0]["allowed"]) == (None, None)


def test_junit_has_a_case_per_check() -> None:
    checks = [
        check("a"),
        check("a"),
        check("b", "fail", ["x (Conv)"]),
        check("c", "inconclusive"),
        check("d", "not comparable"),
    ]
    root = ET.fromstring(FORMATS["junit"](outcome(*checks, seconds=1.25)))
    (suite,) = root.findall("testsuite")
    for element in (root, suite):
        assert [element.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["5", "1", "0", "2"]
    cases = suite.findall("testcase")
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == 5
    assert [[child.tag for child in case] for case in cases] == [[], [], ["failure"], ["skipped"], ["skipped"]]
    failure = cases[2][0]
    assert "x (Conv)" in str(failure.get("message"))
    assert "x (Conv)" in str(failure.text)
    read = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert read["machine.cpu"] == "X 1"
    assert read["sha256.m.onnx"] == "ab"
    assert read["runtime"] == "onnxruntime 1"


def test_junit_of_strangers_names_can_be_read(hostile: GateOutcome) -> None:
    root = ET.fromstring(FORMATS["junit"](hostile))
    message = str(next(root.iter("failure")).get("message"))
    assert message.startswith("a\\x1b[31m]]><b & \"q' | `c` %0A,:\\r\\n::add-mask::x ##vso[task.x]\\x00\\ud800")


def test_github_gets_its_characters_back(hostile: GateOutcome) -> None:
    group, end, error, *warnings = commands(FORMATS["github"](hostile))
    assert (group[0], end[0], error[0]) == ("group", "endgroup", "error")
    assert "`c` %0A,:\\r\\n::add-mask::x" in error[1]["title"]
    assert error[2].startswith(error[1]["title"].removeprefix("gate: ").removesuffix(" fail"))
    assert [name for name, _, _ in warnings] == ["warning", "warning"]


def test_github_gets_ten_of_each_and_the_last_one_holds_the_rest() -> None:
    checks = [check(f"op{i}", "fail") for i in range(100)] + [check(f"u{i}", "inconclusive") for i in range(11)]
    found = commands(FORMATS["github"](outcome(*checks)))
    errors, warnings = ([one for one in found if one[0] == level] for level in ("error", "warning"))
    assert (len(errors), len(warnings)) == (10, 10)
    assert errors[-1][1]["title"] == "gate: 91 more"
    assert errors[-1][2].splitlines()[0].startswith("op9:")
    assert errors[-1][2].splitlines()[-1] == "and 41 more"
    assert [line.split(":")[0] for line in warnings[-1][2].splitlines()] == ["u9", "u10"]


def test_github_gets_exactly_ten_one_by_one() -> None:
    found = commands(FORMATS["github"](outcome(*(check(f"op{i}", "fail") for i in range(10)))))
    assert [one[1]["title"] for one in found if one[0] == "error"] == [f"gate: op{i} fail" for i in range(10)]


def test_github_gets_one_notice_of_a_pass() -> None:
    (notice,) = (one for one in commands(FORMATS["github"](outcome(check()))) if one[0] not in ("group", "endgroup"))
    assert notice == ("notice", {"title": "gate: pass"}, "pass: m.onnx holds its one check against b.onnx")


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_warning_is_an_annotation_and_is_not_folded_away(verdict: Verdict) -> None:
    warned = outcome(check(verdict=verdict), facts=("warning: model: near chance: 3 % are right", "how it was timed"))
    found = commands(FORMATS["github"](warned))
    assert ("warning", {"title": "gate: warning"}, "model: near chance: 3 % are right") in found
    before, _, folded = FORMATS["markdown"](warned).partition("<details>")
    assert "**warning**: model: near chance: 3 % are right" in before
    assert "near chance" not in folded and "how it was timed" in folded


@pytest.mark.parametrize(("suffix", "start"), [(".json", "{"), (".xml", "<?xml"), (".md", "### Gate")])
def test_a_file_is_written_in_the_form_of_its_suffix(suffix: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / f"gate{suffix}"
    path.write_text("old")
    save_as(outcome(check()), path)
    assert path.read_text(encoding="utf-8").startswith(start)
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gate.json"
    path.write_text("old")

    def fails(descriptor: int) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(RuntimeError):
        save_as(outcome(check()), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.txt", r"allowed: \.json .*\.xml .*\.md"), ("none/a.md", "does not exist"), ("d.md", "folder")],
)
def test_a_file_that_cannot_be_is_refused_before_the_work(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "d.md").mkdir()
    with pytest.raises(InputError, match=expected):
        form_of(tmp_path / name)


def test_the_summary_is_added_to_what_the_step_wrote(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text("| a |\n| --- |\n")
    for _ in range(2):
        assert write_step_summary(outcome(check(), facts=("é",)), {"GITHUB_STEP_SUMMARY": str(path)}) is None
    text = path.read_text(encoding="utf-8")
    assert text.startswith("| a |\n| --- |\n\n\n### Gate: pass")
    assert text.count("### Gate: pass") == 2
    assert write_step_summary(outcome(check()), {}) is None


@pytest.mark.parametrize("written", [0, SUMMARY - 10**5, SUMMARY - 2000, SUMMARY - 200])
def test_the_summary_stays_within_what_github_takes(written: int, tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text(" " * written)
    rows = tuple({"layer": "é|" * 60, "bytes": i} for i in range(3000))
    checks = [check(f"op{i}", "fail", ["é|" * 60]) for i in range(100)]
    large = outcome(*checks, tables=(OutcomeTable("bytes by layer", rows),), facts=("é" * 900,) * 50)
    assert write_step_summary(large, {"GITHUB_STEP_SUMMARY": str(path)}) is None
    text = path.read_bytes()[written:].decode()
    assert len(text.encode()) + written <= SUMMARY
    assert "did not fit" in text
    assert text.endswith("\n")
    assert text.count("<details>") == text.count("</details>")


def test_a_summary_that_is_full_or_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text(" " * SUMMARY)
    assert "full" in str(write_step_summary(outcome(check()), {"GITHUB_STEP_SUMMARY": str(path)}))
    assert path.stat().st_size == SUMMARY
    assert "Is a directory" in str(write_step_summary(outcome(check()), {"GITHUB_STEP_SUMMARY": str(tmp_path)}))
    assert "No such file" in str(
        write_step_summary(outcome(check()), {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "s")})
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_its_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    checks = [
        check(name, verdict) for name, verdict in (("ops BatchNormalization", "not comparable"), ("bytes", "fail"))
    ]
    rows = ({"layer": "features.12.conv.3.weight (QuantizeLinear, int8)" * 3, "bytes": 10**9, "more bytes": -(10**9)},)
    lines = FORMATS["table"](outcome(*checks, tables=(OutcomeTable("bytes by layer", rows),))).splitlines()
    assert max(map(len, lines)) <= columns
    assert any(re.match(r"bytes +1 MiB +1\.5 MiB +1\.500x +1\.0x +fail$", line) for line in lines)
    assert any("not comparable" in line and "ops BatchNormalization" in line for line in lines)
    assert "\x1b" not in "".join(lines)


def test_the_table_ends_with_the_verdict() -> None:
    layers = ["a (Conv) +2 MiB", "b (Conv) +1 MiB", "c (Conv)", "d (Conv)", "e (Conv)", "and 20 more"]
    text = " ".join(FORMATS["table"](outcome(check("bytes", "fail", layers), check("opset"))).split())
    expected = "bytes 512 KiB over 1 MiB (1.500x, limit 1.0x) in a (Conv) +2 MiB, b (Conv) +1 MiB and 23 more"
    assert text.endswith(f"fail: m.onnx fails 1 of 2 checks against b.onnx: {expected}")


def test_floors_and_values_that_are_not_there() -> None:
    low = BudgetCheck(
        "accuracy", "deterministic", "1 points under", "%", 85.0, 83.0, 84.0, "fail", "on 9 images", least=True
    )
    none = BudgetCheck("peak memory", "absolute", "9 MiB", "B", None, None, None, "not comparable", "another machine")
    lines = FORMATS["table"](outcome(low, none, replace(check("ops X"), before=0, after=2, unit=""))).splitlines()
    assert re.match(r"accuracy +85\.00 % +83\.00 % +-2\.00 % +≥ 84\.00 % +fail", lines[1])
    assert re.match(r"peak memory +- +- +9 MiB +not comparable", lines[2])
    assert re.match(r"ops X +0 +2 +\+2 +1\.0x +pass", lines[3])
    assert "accuracy: 83.00 %, 1.00 points under 84.00 % (limit 1 points under); on 9 images" in lines


@pytest.mark.parametrize(
    ("unit", "after", "allowed", "least", "said"),
    [
        ("%", 0.0, 90.0, True, "0.00 %, 90.00 points under 90.00 % (limit as written)"),
        ("%", 89.996, 90.0, True, "89.996 %, 0.004 points under 90.000 % (limit as written)"),
        ("%", 89.99999, 90.0, True, "89.99999 %, 1e-05 points under 90.00000 % (limit as written)"),
        ("B", 8 * 2**20, 4 * 2**20, False, "8 MiB, 4 MiB over 4 MiB (limit as written)"),
        ("B", 8 * 2**20 + 1, 8 * 2**20, False, "1 B over 8 MiB (limit as written)"),
    ],
)
def test_the_numbers_of_a_missed_limit_differ_as_they_are_written(
    unit: str, after: float, allowed: float, least: bool, said: str
) -> None:
    one = BudgetCheck("accuracy", "deterministic", "as written", unit, None, after, allowed, "fail", least=least)
    text = FORMATS["table"](outcome(one))
    assert f"accuracy: {said}" in text.splitlines()
    if least:
        floor = said.split(" under ")[1].partition(" (")[0]
        assert f"≥ {floor}" in text
        assert said.partition(",")[0] in text.splitlines()[1]
