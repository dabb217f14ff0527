"""Failures as exit codes and lines."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from paredown.models.errors import InputError, LimitError, MachineError, MissingError, ParedownError
from paredown.pipeline.commands.exit_codes import run_guarded, show_tracebacks

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


def test_a_fault_of_our_own_leaves_a_log(tmp_path: Path, capsys: Capture) -> None:
    assert run_guarded(partial(int, "one\ntwo"), tmp_path / "runs") == 1
    (log,) = (tmp_path / "runs").iterdir()
    told = "error: ValueError: invalid literal for int() with base 10: 'one\\ntwo'; details are in "
    assert capsys.readouterr().err == f"{told}{log}\n"
    assert "Traceback" in log.read_text()


def test_a_failure_of_the_user_s_code_is_one_line_with_its_place(tmp_path: Path, capsys: Capture) -> None:
    assert run_guarded(raising(ZeroDivisionError("first line\nsecond")), tmp_path / "runs") == 2
    assert capsys.readouterr().err == f"error: ZeroDivisionError: first line ({__file__}:17)\n"
    assert not (tmp_path / "runs").exists()


def test_tracebacks_are_printed_when_asked_for(capsys: Capture) -> None:
    show_tracebacks(True)
    try:
        run_guarded(raising(InputError("what")))
    finally:
        show_tracebacks(False)
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("\nerror: what\n")


def test_the_log_goes_elsewhere_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temp"))
    assert run_guarded(partial(int, "x"), tmp_path / "file") == 1
    (log,) = (tmp_path / "temp").iterdir()
    assert str(log) in capsys.readouterr().err
