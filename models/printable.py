"""Foreign text made safe for one line, or for the lines, of a terminal."""


def printable(text: object, longest: int | None = None) -> str:
    """The text on one line: control characters, which could steer a terminal or break a form, are written as escapes.

    Of a text with more than `longest` characters the middle is left out.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    if longest is None or len(shown) <= longest:
        return shown
    return f"{shown[: longest // 2]}…{shown[-(longest // 2) :]}"


def on_one_line(text: str, longest: int = 500) -> str:
    """The first `longest` characters of the text, a space in the place of every control character and line break."""
    return "".join(c if c.isprintable() else " " for c in text)[:longest]


def harmless(text: str) -> str:
    """The text with its line breaks, every other control character written as an escape."""
    return "\n".join(map(printable, text.split("\n")))
