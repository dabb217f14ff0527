"""What a person sees while work goes on."""

import io

import pytest

from paredown.pipeline.commands.progress_bars import PlainLines, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_few_and_tell_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([*range(12), 11, 12, 16, 17, 100])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    stream = io.StringIO()
    lines = PlainLines(stream)
    for done in range(12):
        lines("1/2 fit: epoch", done, 20)
    for done in (0, 0, 4, 8):  # the next part: its time left rests on its own speed
        lines("1/2 fit: testing", done, 8)
    lines("2/2 verify: parity", 0, 20)
    assert stream.getvalue().splitlines() == [
        "1/2 fit: epoch",
        "1/2 fit: epoch 25 %, about 15 s left",
        "1/2 fit: epoch 50 %, about 10 s left",
        "1/2 fit: testing 50 %, about 5 s left",
        "1/2 fit: testing",
        "2/2 verify: parity",
    ]


def test_no_terminal_gets_plain_lines() -> None:
    stream = io.StringIO()
    with show_progress(stream) as progress:
        progress("1/1 fit: starts", 0, 1)
        progress("1/1 fit: starts", 1, 1)
    assert stream.getvalue() == "1/1 fit: starts\n1/1 fit: starts\n"


def test_a_terminal_gets_one_bar_per_stage() -> None:
    stream = Terminal()
    with show_progress(stream) as progress:
        progress("1/2 fit: epoch", 1, 4)
        progress("1/2 fit: testing", 1, 2)
        progress("2/2 verify: parity", 0, 1)
    drawn = stream.getvalue().splitlines()[-3:-1]
    assert ["fit: testing" in drawn[0], "verify: parity" in drawn[1]] == [True, True]
    assert "\x1b[" in stream.getvalue()
