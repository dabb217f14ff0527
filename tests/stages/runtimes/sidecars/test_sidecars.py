"""Interpreters of their own: what is made, what is refused, and what a process does to the run that asked it."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError, MachineError, MissingError, ParedownError
from paredown.stages.runtimes.sidecars import environment
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.sidecars.registry import SIDECARS, no_avx2_linux, sidecar_of
from paredown.stages.runtimes.sidecars.worker import SidecarWorker, error_line
from paredown.stages.runtimes.support import machine
from paredown.stages.runtimes.support.standalone import SessionError

VERBS = '''
import os, signal, sys, time
from pathlib import Path

print("Copyright: a banner on stdout")
MARKS = Path(__file__).with_name("marks")


def add(a, b):
    print("noise from Python")
    os.write(1, b"noise from C\\n")
    return a + b


def where():
    return {"pid": os.getpid(), "said": os.environ.get("NM_DISABLE_ANALYTICS"), "path": os.environ.get("PYTHONPATH")}


def refuse():
    raise ValueError("no such layer\\nand more of it")


def fail():
    return {}["gone"]


def die(times, how):
    """Ends the process as often as it is asked to, counted over processes."""
    died = len(MARKS.read_text()) if MARKS.exists() else 0
    if died < times:
        MARKS.write_text("x" * (died + 1))
        sys.stderr.write("Assertion at ops.cc:370\\nPlease write to us\\n")
        sys.stderr.flush()
        os.abort() if how == "abort" else os._exit(7) if how == "exit" else os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def sleep(seconds):
    time.sleep(seconds)


def hear():
    return sys.stdin.read()


VERBS = {f.__name__: f for f in (add, where, refuse, fail, die, sleep, hear)}
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "verbs.py"
    file.write_text(VERBS)
    return file


@pytest.fixture
def worker(script: Path) -> Iterator[SidecarWorker]:
    with SidecarWorker("fake", Path(sys.executable), script) as made:
        yield made


def test_answers_come_back_whatever_is_printed(worker: SidecarWorker) -> None:
    assert worker.ask("add", a=1, b=2) == 3
    assert worker.ask("add", a=[1.5], b=["x"]) == [1.5, "x"]


def test_it_reads_nothing_and_sends_nothing_home(worker: SidecarWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("NM_DISABLE_ANALYTICS", "0")
    assert worker.ask("where") | {"pid": 0} == {"pid": 0, "said": "1", "path": None}
    assert worker.ask("hear") == ""


def test_one_process_answers_until_the_block_ends(script: Path) -> None:
    with SidecarWorker("fake", Path(sys.executable), script) as worker:
        first, second = worker.ask("where")["pid"], worker.ask("where")["pid"]
        assert first == second
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_refusal_is_about_the_model_and_the_process_goes_on(worker: SidecarWorker) -> None:
    before = worker.ask("where")["pid"]
    with pytest.raises(SessionError, match=r"^no such layer$"):
        worker.ask("refuse")
    assert worker.ask("where")["pid"] == before


def test_a_failure_is_about_the_sidecar(worker: SidecarWorker) -> None:
    with pytest.raises(ParedownError, match="fake: its process failed: KeyError: 'gone'"):
        worker.ask("fail")


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    with SidecarWorker("fake", Path(sys.executable), tmp_path / "broken.py") as worker:
        for _ in range(2):
            with pytest.raises(ParedownError, match=r"ModuleNotFoundError: No module named 'no_such_package'$"):
                worker.ask("add", a=1, b=2)


@pytest.mark.parametrize("how", ["abort", "exit", "kill"])
def test_a_process_that_died_is_started_again(worker: SidecarWorker, how: str) -> None:
    before = worker.ask("where")["pid"]
    assert worker.ask("die", times=1, how=how) == "alive"
    assert worker.ask("where")["pid"] != before


@pytest.mark.parametrize(("how", "words"), [("abort", "killed by SIGABRT"), ("exit", "exit code 7")])
def test_one_that_dies_twice_is_an_error_that_says_how(worker: SidecarWorker, how: str, words: str) -> None:
    with pytest.raises(SessionError, match=f"died again when started anew: {words}: Assertion at ops.cc:370$"):
        worker.ask("die", times=2, how=how)
    assert worker.ask("add", a=1, b=2) == 3


def test_one_that_was_killed_between_two_questions_is_not_missed(worker: SidecarWorker) -> None:
    os.kill(worker.ask("where")["pid"], 9)
    assert worker.ask("add", a=1, b=2) == 3


def test_a_process_that_hangs_is_stopped(script: Path) -> None:
    with SidecarWorker("fake", Path(sys.executable), script, deadline=0.5) as worker:
        with pytest.raises(SessionError, match=r"stopped after 0.5 s without an answer to 'sleep'"):
            worker.ask("sleep", seconds=60)
        worker.deadline = 60.0
        assert worker.ask("add", a=1, b=2) == 3


def test_what_is_no_json_is_told(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", "#!/bin/sh\nread line; echo good morning\n")
    with (
        SidecarWorker("fake", python, tmp_path / "verbs.py") as worker,
        pytest.raises(ParedownError, match="'good morning'"),
    ):
        worker.ask("add", a=1, b=2)


def test_an_interpreter_that_is_gone_is_told_with_the_command(tmp_path: Path) -> None:
    with (
        SidecarWorker("fake", tmp_path / "gone", tmp_path / "verbs.py") as worker,
        pytest.raises(MissingError, match=r"gone cannot be started: .*: paredown runtime install fake$"),
    ):
        worker.ask("add", a=1, b=2)


def test_the_line_about_the_error_is_chosen() -> None:
    assert error_line("a\nAssertion at x\nsend this to us\n\n") == "Assertion at x"
    assert error_line("a\nValueError: b\nc") == "ValueError: b"
    assert error_line("a\nb\n") == "b"
    assert error_line("") == ""


@pytest.fixture
def sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sidecar:
    """One that needs nothing but the running interpreter; pip is taken as given."""
    monkeypatch.setenv("PAREDOWN_SIDECARS", str(tmp_path / "sidecars"))
    monkeypatch.setattr(environment.tempfile, "tempdir", str(tmp_path))
    version = ".".join(map(str, sys.version_info[:2]))
    return Sidecar("fake", ("nothing==1.0",), (version,), "1 MB", "Terms.", "nothing-1.0.dist-info/LICENSE")


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def commands(monkeypatch: pytest.MonkeyPatch, fails: str = "") -> list[list[str]]:
    """Installing commands are written down instead of run; the one that holds `fails` fails."""
    asked: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        if options.get("stdout") is not None and not isinstance(options["stdout"], int):
            options["stdout"].write("downloading\nERROR: no matching distribution\nbye\n")
        code = int(bool(fails) and fails in command)
        return subprocess.CompletedProcess(command, code, stdout="nothing==1.0\nother==2\n")

    monkeypatch.setattr(environment, "version_of", lambda path: ".".join(map(str, sys.version_info[:2])))
    monkeypatch.setattr(environment.subprocess, "run", run)
    return asked


def test_it_is_missing_until_it_is_installed(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = "fake needs its own interpreter, which is not installed: paredown runtime install fake"
    assert sidecar.missing() == line
    with pytest.raises(MissingError, match=f"^{line}$"):
        _ = sidecar.python
    asked = commands(monkeypatch)
    assert sidecar.install() == tmp_path / "sidecars" / "fake"
    assert asked[0][0] == sys.executable and asked[0][1:3] == ["-m", "venv"]
    assert asked[1][-1] == "nothing==1.0" and "install" in asked[1]
    assert sidecar.missing() is None
    assert sidecar.python.parent.parent == tmp_path / "sidecars" / "fake"
    assert sidecar.installed_version("other") == "2"
    assert [path.name for path in (tmp_path / "sidecars").iterdir()] == ["fake"]
    assert list(tmp_path.glob("*.log")) == []
    assert sidecar.remove() and not sidecar.remove()
    assert sidecar.missing() == line


def test_a_failed_installation_leaves_a_log_and_nothing_else(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands(monkeypatch, fails="install")
    with pytest.raises(
        MachineError, match=r"ended with 1: ERROR: no matching distribution \(all of it: (\S+)\)"
    ) as told:
        sidecar.install()
    log = Path(str(told.value).rpartition(" ")[2].rstrip(")"))
    assert "downloading" in log.read_text() and log.parent == tmp_path
    assert list((tmp_path / "sidecars").iterdir()) == []
    assert sidecar.missing()


def test_a_failed_installation_leaves_the_old_one(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(monkeypatch)
    sidecar.install()
    commands(monkeypatch, fails="install")
    with pytest.raises(MachineError):
        sidecar.install()
    assert sidecar.missing() is None


def test_one_that_is_half_made_is_never_used(sidecar: Sidecar) -> None:
    (sidecar.folder / "bin").mkdir(parents=True)
    (sidecar.folder.parent / ".fake-abc").mkdir()
    assert "not installed" in str(sidecar.missing())
    assert sidecar.remove()
    assert list(sidecar.folder.parent.iterdir()) == []


def test_one_made_from_other_requirements_is_not_used(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(monkeypatch)
    sidecar.install()
    newer = replace(sidecar, requirements=("nothing==2.0",))
    assert "other requirements" in str(newer.missing())


def test_interpreters_are_run_to_see_what_they_are(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sidecar.folder.parent
    folder.mkdir()
    executable(folder / "python3.8", "#!/bin/sh\necho 'pyenv: python3.8: command not found' >&2; exit 127\n")
    real = executable(folder / "python3.9", "#!/bin/sh\necho 3.9\n")
    monkeypatch.setenv("PATH", f"/no/such/folder{os.pathsep}{folder}{os.pathsep}/usr/bin")
    wanting = replace(sidecar, pythons=("3.8", "3.9"))
    assert wanting.interpreter() == real
    assert wanting.interpreter(real) == real
    with pytest.raises(InputError, match=r"python3.8 does not run as a Python .*; fake needs one of 3.8, 3.9$"):
        wanting.interpreter(folder / "python3.8")
    with pytest.raises(InputError, match=r"is Python 3\.\d+; fake needs one of 3.8, 3.9$"):
        wanting.interpreter(Path(sys.executable))


def test_a_missing_interpreter_is_one_line(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    line = "fake needs one of Python 3.7, 3.6; none is on the PATH: --python PATH names one"
    with pytest.raises(MissingError, match=line):
        replace(sidecar, pythons=("3.7", "3.6")).install()


def test_this_interpreter_is_taken_where_it_fits(sidecar: Sidecar) -> None:
    assert sidecar.interpreter() == Path(sys.executable)


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ({"system": "Darwin", "arch": "arm64", "flags": "asimd"}, "needs Linux on x86-64, this is Darwin on arm64"),
        ({"system": "Linux", "arch": "x86_64", "flags": "unknown"}, "a CPU with AVX2"),
        ({"system": "Linux", "arch": "x86_64", "flags": "avx2 avx512f"}, ""),
    ],
)
def test_machines_that_cannot_have_it_are_told_what_can(
    here: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, sidecar: Sidecar
) -> None:
    monkeypatch.setattr(machine, "fingerprint", lambda: here)
    one = replace(sidecar, obstacle=no_avx2_linux)
    assert words in no_avx2_linux()
    if words:
        assert str(one.missing()).endswith(f"{words}; the default runtime, onnxruntime, can")
        with pytest.raises(MissingError, match="cannot run here"):
            one.install()


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAREDOWN_SIDECARS", str(tmp_path))
    assert environment.sidecars_folder() == tmp_path
    monkeypatch.delenv("PAREDOWN_SIDECARS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert environment.sidecars_folder() == tmp_path / "data" / "paredown" / "sidecars"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.sidecars_folder() == tmp_path / ".local" / "share" / "paredown" / "sidecars"


def test_the_known_ones_are_pinned_and_state_their_terms() -> None:
    assert {"deepsparse", "sparseml"} <= set(SIDECARS)
    for name, known in SIDECARS.items():
        assert sidecar_of(name) is known
        assert "not production" in known.terms
        assert all("==" in line or "<" in line for line in known.requirements)
    with pytest.raises(InputError, match="no runtime 'deep' to install; allowed: deepsparse, sparseml"):
        sidecar_of("deep")
