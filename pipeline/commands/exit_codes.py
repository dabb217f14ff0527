"""Failures as exit codes, each in a single line; one that is paredown's own fault leaves a log file."""

import logging
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from paredown.models.errors import InputError, ParedownError, first_line
from paredown.models.loading.code_places import fault_of, user_place
from paredown.models.printable import harmless
from paredown.pipeline.machine_errors import machine_errors

OWN_FAULT = ParedownError.exit_code
INTERRUPTED = 130
_log = logging.getLogger("paredown")


def show_tracebacks(shown: bool) -> None:
    """Whether a failure is printed with its traceback: that of `-v`."""
    _log.setLevel(logging.DEBUG if shown else logging.NOTSET)


def run_guarded(action: Callable[[], int | None], logs: Path | None = None, own_fault: int = OWN_FAULT) -> int:
    """Runs `action` and returns the process's exit code: that of the action, if any, or that of its failure, which is
    printed in one line on stderr.

    A failure of the user's code is bad input, and the line has its place. Any other that has no exit code counts as
    `own_fault`, and is written with its traceback into the folder `logs`, or a temporary one.
    """
    try:
        with machine_errors(logs or Path.cwd()):
            return action() or 0
    except ParedownError as error:
        _print_error(f"error: {error}")
        return own_fault if error.exit_code == OWN_FAULT else error.exit_code
    except KeyboardInterrupt:
        _print_error("stopped; run the same command again to go on")
        return INTERRUPTED
    except SystemExit as error:
        if place := user_place(error):
            _print_error(f"error: the code ends the program ({place})")
            return InputError.exit_code
        raise
    except Exception as error:
        if user_place(error):
            _print_error(f"error: {fault_of(error)}")
            return InputError.exit_code
        doing = "".join(f"{note}: " for note in error.__notes__[:1]) if hasattr(error, "__notes__") else ""
        text = f"{doing}{type(error).__name__}: {first_line(error)}"
        _print_error(f"error: {text}; details are in {_write_log(logs)}")
        return own_fault


def _print_error(text: str) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        print(harmless(traceback.format_exc()), file=sys.stderr)
    print(harmless(text), file=sys.stderr)


def _write_log(logs: Path | None) -> Path:
    """The traceback of the failure being handled, in `logs` or, where that cannot be written, elsewhere."""
    now = datetime.now()
    text = f"{now.isoformat()}\n{' '.join(sys.argv)}\n{platform.platform()}, Python {sys.version}\n\n"
    text += traceback.format_exc()
    for folder in [logs, Path(tempfile.gettempdir())]:
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"paredown-{now:%Y%m%d-%H%M%S-%f}.log"
            file.write_text(text)
        except OSError:
            continue
        return file
    print(text, file=sys.stderr)
    return Path("the lines above")
