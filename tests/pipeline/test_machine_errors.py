"""Failures as exit codes and lines."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.models.errors import InputError, LimitError, MachineError, MissingError, ParedownError
from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.machine_errors import machine_errors

Capture = pytest.CaptureFixture[str]


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParedownError("what"), 1),
        (InputError("what"), 2),
        (LimitError("what"), 3),
        (MissingError("what"), 4),
        (MachineError("what"), 5),
    ],
)
def test_expected_failures_are_one_line(error: ParedownError, code: int, tmp_path: Path, capsys: Capture) -> None:
    assert run_guarded(raising(error), tmp_path) == code
    assert capsys.readouterr() == ("", "error: what\n")
    assert list(tmp_path.iterdir()) == []


def test_success_says_nothing(capsys: Capture) -> None:
    assert run_guarded(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_says_how_to_go_on(capsys: Capture) -> None:
    assert run_guarded(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "stopped; run the same command again to go on\n"


def test_an_unexpected_failure_leaves_a_log(tmp_path: Path, capsys: Capture) -> None:
    assert run_guarded(raising(ZeroDivisionError("first line\nsecond")), tmp_path / "runs") == 1
    (log,) = (tmp_path / "runs").iterdir()
    assert capsys.readouterr().err == f"unexpected ZeroDivisionError: first line; details are in {log}\n"
    assert "Traceback" in log.read_text()
    assert "second" in log.read_text()


def test_the_log_goes_elsewhere_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temp"))
    assert run_guarded(raising(ZeroDivisionError("x")), tmp_path / "file") == 1
    (log,) = (tmp_path / "temp").iterdir()
    assert str(log) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "where: the disk is full"),
        (OSError(errno.EACCES, "x", "file.txt"), "file.txt: permission denied"),
        (OSError(errno.EROFS, "x"), "where: the file system is read-only"),
        (MemoryError(), "where: out of memory"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), "where: the disk is full"),
        (RuntimeError("[enforce fail at a.cc:6] . unexpected pos 18 vs 12"), "where: the disk is full"),
        (RuntimeError("[a.cc:7] . open file failed with strerror: Permission denied"), "where: permission denied"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "where: the disk is full"),
    ],
)
def test_refusals_of_the_machine(error: Exception, reason: str) -> None:
    with pytest.raises(MachineError) as caught, machine_errors(Path("where")):
        raise error
    assert str(caught.value) == f"{reason}; finished products are kept"


def test_a_refusal_is_found_behind_another_failure() -> None:
    with pytest.raises(MachineError, match="the disk is full"), machine_errors(Path("where")):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("export failed") from error


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), InputError("x")])
def test_other_failures_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, machine_errors(Path("where")):
        raise error
    assert caught.value is error
