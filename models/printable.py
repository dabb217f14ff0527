"""Foreign text made safe for one line, or for the lines, of a terminal."""


def printable(text: object, longest: int | None = None) -> str:
    """The text on one line: control characters, which could steer a terminal or break a form, are written as escapes.

    Of a text with more than `longest` characters the middle is left out.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    if longest is None or len(shown) <= longest:
        return shown
    return f"{shown[: longest // 2]}…{shown[-(longest // 2) :]}"


def harmless(text: str) -> str:
    """The text with its line breaks, every other control character written as an escape."""
    return "\n".join(map(printable, text.split("\n")))
