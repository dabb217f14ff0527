"""Failures as exit codes and lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.models.errors import InputError, LimitError, MachineError, MissingError, ParedownError
from paredown.pipeline.commands.exit_codes import run_guarded

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
    assert run_guarded(lambda: 3) == 3, "an action may have an exit code of its own"
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
