"""Text of unknown origin on a terminal."""

import pytest

from paredown.models.printable import harmless, on_one_line, printable

ODD = "a\nb\x1b[2J\u202ec"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), (ODD, r"a\nb\x1b[2J\u202ec"), ("ä€", "ä€"), (12, "12"), ("\r", r"\r")],
)
def test_control_characters_are_written_as_escapes(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_the_middle_of_a_long_text_is_left_out() -> None:
    assert printable("a" * 50 + "b" * 50, 20) == "a" * 10 + "…" + "b" * 10
    assert printable("a" * 20, 20) == "a" * 20


def test_line_breaks_may_stay() -> None:
    assert harmless(ODD) == "a\nb\\x1b[2J\\u202ec"


def test_control_characters_may_become_spaces() -> None:
    assert on_one_line(ODD + "d" * 1000) == ("a b [2J c" + "d" * 1000)[:500]
