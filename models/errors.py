"""The failures that a person can mend, each with its exit code."""


def first_line(error: Exception, longest: int = 200) -> str:
    """The first `longest` characters of what another library's error says in its first line that is not blank; the
    name of its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:longest]


class ParedownError(Exception):
    """An expected failure: its text is the one line that the user sees.

    `keep` says that the stage which raised it had finished its product, so that the store keeps it.
    """

    exit_code = 1

    def __init__(self, text: str, *, keep: bool = False) -> None:
        super().__init__(text)
        self.keep = keep


class InputError(ParedownError):
    """The recipe, or something that it names, cannot be used as it is."""

    exit_code = 2


class LimitError(ParedownError):
    """A limit cannot be met, or the finished artifact misses it."""

    exit_code = 3


class MissingError(ParedownError):
    """An optional part is not installed; the text holds the command that installs it."""

    exit_code = 4


class MachineError(ParedownError):
    """The machine refused: a full disk, a read-only folder, a run that is already going on."""

    exit_code = 5
