"""The verbs: results on stdout, the rest on stderr, exit codes."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.models.errors import MachineError
from paredown.pipeline.cli import main
from paredown.stages.plugins import lookup
from paredown.stages.products.interval import Interval
from paredown.stages.products.measure_check import MeasureCheck

Write = Callable[..., Path]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in `tmp_path` with a small report; gives exit code, stdout and stderr."""

    def render(folder: Path) -> Path:
        (folder / "report.html").write_text("report")
        return folder / "report.html"

    rows = (
        MeasureCheck(
            "size", "MiB", 8.0, 2.0, 4.0, True, change=Interval(0.25, 0.25, 0.25), exact=True, remark="so \x1b[2J it is"
        ),
        MeasureCheck("latency p50", "ms", 4.0, None, None, None, before_ends=(3.5, 4.5)),
    )
    monkeypatch.setattr("paredown.pipeline.public.runs.render_report", render)
    monkeypatch.setattr("paredown.pipeline.public.runs.closing_table_of", lambda folder: rows)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        signal.signal(signal.SIGTERM, before)
        code = caught.value.code
        return (code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def test_run_prints_the_table_and_nothing_else_on_stdout(call: Call, write_stage: Write, write_recipe: Write) -> None:
    write_stage("first", 'print("noise")')
    write_recipe("- first.py")
    code, out, err = call("run", "demo.yaml", "--json")
    assert code == 0
    size, latency = json.loads(out)
    assert (size["name"], size["after"], size["holds"], size["exact"]) == ("size", 2.0, True, True)
    assert size["change"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert (latency["before_ends"], latency["after_ends"], latency["change"]) == ([3.5, 4.5], None, None)
    assert "noise" in err
    assert "1/1 first.py: starts" in err
    assert "report: runs/demo/report.html" in err
    code, out, err = call("run", "demo.yaml")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "measure before after change limit",
        "size (MiB) 8 (exact) 2 (exact) 0.250x (exact) 4 holds",
        "latency p50 (ms) 4 (3.5 to 4.5) - - -",
    ]
    assert "in brackets: 99 % intervals; sizes are exact\nsize: so \\x1b[2J it is\n" in err
    assert "1/1 first.py: unchanged" in err


def test_a_missed_limit_still_gives_the_table(call: Call, write_stage: Write, write_recipe: Write) -> None:
    write_stage("first", 'raise LimitError("size: 3 MiB, limit 2 MiB", keep=True)')
    write_recipe("- first.py")
    code, out, err = call("run", "demo.yaml", "--json", "--out", "elsewhere")
    assert code == 3
    assert len(json.loads(out)) == 2
    assert err.endswith("error: size: 3 MiB, limit 2 MiB\n")
    assert Path("elsewhere/demo/report.html").exists()


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("pass", 5, "error: report.html: read-only"),
        ('raise LimitError("size: 3 MiB, limit 2 MiB", keep=True)', 3, "error: size: 3 MiB, limit 2 MiB"),
        ('raise LimitError("", keep=True)', 3, "error: a limit is not met"),
    ],
)
def test_a_report_that_cannot_be_written_takes_nothing_else_along(
    call: Call,
    write_stage: Write,
    write_recipe: Write,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    code: int,
    line: str,
) -> None:
    def read_only(folder: Path) -> Path:
        raise MachineError("report.html: read-only")

    monkeypatch.setattr("paredown.pipeline.public.runs.render_report", read_only)
    write_stage("first", body)
    write_recipe("- first.py")
    ended, out, err = call("run", "demo.yaml", "--json")
    assert ended == code and len(json.loads(out)) == 2
    assert err.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("body", "code", "last"),
    [
        ('raise InputError("no such weights")', 2, "error: no such weights"),
        ('raise MissingError("pip install x")', 4, "error: pip install x"),
        ("raise OSError(28, 'No space left')", 5, "the disk is full; finished products are kept"),
        ("raise KeyboardInterrupt", 130, "stopped; run the same command again to go on"),
        ("1 / 0", 2, "error: first.py: ZeroDivisionError: division by zero ("),
        ("raise KeyError", 2, "error: first.py: KeyError ("),
        ("import json; json.loads('{')", 2, "error: first.py: JSONDecodeError: Expecting property name"),
    ],
)
def test_exit_codes(call: Call, write_stage: Write, write_recipe: Write, body: str, code: int, last: str) -> None:
    write_stage("first", "from paredown.models.errors import InputError, MissingError\n" + body)
    write_recipe("- first.py")
    got, out, err = call("run", "demo.yaml", "--json")
    assert (got, out) == (code, "")
    assert last in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not list(Path("runs/demo").glob("paredown-*.log"))
    if last.startswith("error: first.py"):
        assert "(first.py:" in err.splitlines()[-1]


def test_a_fault_of_our_own_names_the_stage_and_leaves_a_log(
    call: Call, write_stage: Write, write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paredown.pipeline.run.runner._run_stage", int)
    write_stage("first", "")
    write_recipe("- first.py")
    code, out, err = call("run", "demo.yaml")
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: stage first.py failed after 'starts': TypeError: ")
    assert "; details are in runs/demo/paredown-" in last
    (log,) = Path("runs/demo").glob("paredown-*.log")
    assert "Traceback" in log.read_text()


def test_verbose_shows_the_traceback_of_any_failure(call: Call, write_stage: Write, write_recipe: Write) -> None:
    write_stage("first", "1 / 0")
    write_recipe("- first.py")
    for arguments in (("run", "demo.yaml", "-v"), ("-v", "run", "demo.yaml")):
        code, _, err = call(*arguments)
        assert code == 2 and "Traceback" in err
    assert "Traceback" not in call("run", "demo.yaml")[2]


def test_wrong_arguments_are_bad_input(call: Call) -> None:
    for arguments, expected in [
        ((), "Usage: paredown"),
        (("run",), "error: Missing argument 'RECIPE'"),
        (("rum",), "error: No such command 'rum'"),
        (("run", "gone.yaml"), "error: gone.yaml cannot be read: No such file"),
        (("report", "gone.yaml"), "error: gone.yaml cannot be read"),
        (("check", "gone.yaml"), "error: gone.yaml cannot be read"),
    ]:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(expected)


def test_help_and_version_end_well(call: Call) -> None:
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        code, out, err = call(*arguments)
        assert (code, err) == (0, "")
        assert "paredown" in out


def test_report_needs_a_run(call: Call, write_stage: Write, write_recipe: Write) -> None:
    write_stage("first")
    write_recipe("- first.py")
    code, _, err = call("report", "demo.yaml")
    assert (code, err) == (2, "error: runs/demo does not exist; start with: paredown run demo.yaml\n")
    call("run", "demo.yaml")
    assert call("report", "demo.yaml") == (0, "runs/demo/report.html\n", "")


def test_plan_needs_a_search(call: Call, write_stage: Write, write_recipe: Write) -> None:
    write_stage("first")
    write_recipe("- first.py")
    code, _, err = call("plan", "demo.yaml")
    assert code == 2
    assert "the recipe has no stage 'search'; its stages: first.py" in err


def test_init_then_refuses_to_overwrite(call: Call) -> None:
    code, out, err = call("init", "timm/resnet18", "images", "-o", "mine.yaml")
    assert (code, out, err) == (0, "", "wrote mine.yaml; next: paredown check mine.yaml\n")
    assert call("init", "timm/resnet18", "images", "-o", "mine.yaml")[0] == 2


def test_list_names_everything(call: Call) -> None:
    code, out, _ = call("list")
    assert code == 0
    for word in (
        "stages:",
        "transforms:",
        "solvers:",
        "  milp ",
        "runtimes:",
        "  onnxruntime ",
        "engines:",
        "  own ",
        "timm/<name>",
    ):
        assert word in out


def test_list_says_what_is_missing_and_how_to_install_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "is_installed", lambda module: False)
    code, out, _ = call("list")
    assert code == 0
    for name, extra in (("neural_compressor", "neural-compressor"), ("openvino", "openvino")):
        (line,) = (line for line in out.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith(f'is not installed: pip install "paredown[{extra}]"')


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "gone.yaml"]])
def test_torch_is_not_imported_before_it_is_needed(arguments: list[str]) -> None:
    script = f"""
import sys
from paredown.pipeline.cli import main
import paredown.stages.plugins
try:
    main({arguments})
except SystemExit:
    pass
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_same_command_goes_on(
    write_stage: Write, write_recipe: Write, tmp_path: Path, number: signal.Signals
) -> None:
    wait = "import time\nif not (state.root / 'go').exists():\n    time.sleep(60)"
    write_stage("first", wait)
    write_recipe("- first.py")
    # A suite that runs in the background of a script ignores SIGINT, and so would its children.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{heard}; from paredown.pipeline.cli import main; main(['run', 'demo.yaml'])"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "ran.txt").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("stopped; run the same command again to go on\n")
    assert "Traceback" not in err
