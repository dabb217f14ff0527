"""`paredown gate` as a person or a machine calls it: exit codes, forms, files."""

import json
import xml.etree.ElementTree as Tree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError, ParedownError
from paredown.pipeline.cli import main
from paredown.pipeline.gate import gate as path_of_a_gate

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `paredown gate` in the bench's folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(bench.folder)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["gate", *arguments])
        code = caught.value.code
        return (code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def test_exit_codes(call: Call, bench: Bench) -> None:
    bench.write(budgets={"bytes": "1x", "latency_p50": "1.05x"})
    given = ("--budgets", "gates.yaml", "--baseline", "int8.onnx")
    assert call("int8.onnx", *given)[0] == 0
    assert call("one.onnx", *given)[0] == 1
    assert call("none.onnx", *given)[0] == 2
    assert call("one.onnx", "--budgets", "none.yaml")[0] == 2


@pytest.mark.parametrize(("policy", "code"), [("inconclusive", 3), ("pass", 0), ("fail", 1)])
def test_a_gate_without_an_answer_counts_as_the_policy_says(call: Call, bench: Bench, policy: str, code: int) -> None:
    bench.write(budgets={"latency_p50": "1 ms"}, machine={"cpu": "another"})
    assert call("int8.onnx", "--budgets", "gates.yaml", "--inconclusive", policy)[0] == code


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ParedownError("x"), InputError("x")])
def test_a_failure_never_counts_as_a_verdict(
    call: Call, bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(path_of_a_gate, "run_gate", broken)
    bench.write(budgets={"bytes": "1 MiB"})
    assert call("int8.onnx", "--budgets", "gates.yaml")[:2] == (2, "")


def test_something_unexpected_is_no_verdict(call: Call, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_of_a_gate, "run_gate", json.loads)
    bench.write(budgets={"bytes": "1 MiB"})
    code, out, err = call("int8.onnx", "--budgets", "gates.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: TypeError: loads() takes 1 positional argument")
    assert "details are in " in err.splitlines()[-1]


def test_without_budgets_a_baseline_is_needed(call: Call) -> None:
    code, _, err = call("int8.onnx")
    assert code == 2
    assert "--baseline" in err


def test_files_of_every_form(call: Call, bench: Bench) -> None:
    bench.write(budgets={"bytes": "1x"})
    given = ("--budgets", "gates.yaml", "--baseline", "int8.onnx", "--static")
    saved = [argument for name in ("g.json", "g.xml", "g.md") for argument in ("--save", name)]
    code, out, _ = call("one.onnx", *given, "--format", "json", *saved)
    assert code == 1
    assert json.loads(out)["verdict"] == json.loads(Path("g.json").read_text())["verdict"] == "fail"
    assert [one.get("message") for one in Tree.parse("g.xml").getroot().iter("failure")]
    assert "block.conv2" in Path("g.md").read_text()


def test_the_baseline_is_updated_and_then_holds(call: Call, bench: Bench) -> None:
    bench.write(budgets={"bytes": "1x"}, baseline="base.onnx")
    given = ("--budgets", "gates.yaml")
    code, _, err = call("int8.onnx", *given)
    assert (code, "--update-baseline" in err) == (2, True)
    code, out, _ = call("int8.onnx", *given, "--update-baseline")
    assert (code, '+ "bytes":' in out) == (0, True)
    assert call("int8.onnx", *given, "--static")[0] == 0
    assert call("int8.onnx", *given, "--update-baseline")[1] == "nothing changed\n"
    assert call("fp32.onnx", *given, "--static")[0] == 1


def test_why_lists_layers(call: Call, bench: Bench) -> None:
    bench.write(budgets={"bytes": "1x"})
    out = call("one.onnx", "--budgets", "gates.yaml", "--baseline", "int8.onnx", "--static", "--why")[1]
    assert "block.conv2" in out


def test_noise_names_the_machine_and_what_can_be_seen(call: Call, bench: Bench) -> None:
    bench.write(budgets={"bytes": "1 MiB"})
    code, out, _ = call("int8.onnx", "--budgets", "gates.yaml", "--watch-noise", "--seconds", "0.5")
    assert code == 0
    assert out.startswith("machine:\n  cores: '2'\n  cpu: test\n")
    head, *rows = out.splitlines()[4:]
    assert head.split()[:2] == ["seconds", "rounds"]
    assert float(rows[0].split()[2]) == pytest.approx(1, abs=0.05)
