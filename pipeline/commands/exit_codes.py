"""Failures as exit codes: an expected one is a single line, an unexpected one leaves a log file."""

import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from paredown.models.errors import ParedownError
from paredown.models.printable import harmless
from paredown.pipeline.machine_errors import machine_errors

UNEXPECTED = ParedownError.exit_code
INTERRUPTED = 130


def run_guarded(action: Callable[[], int | None], logs: Path | None = None, unexpected: int = UNEXPECTED) -> int:
    """Runs `action` and returns the process's exit code: that of the action, if any, or that of its failure, which is
    printed in one line on stderr.

    An unexpected failure, and one that is of none of the kinds that have an exit code, counts as `unexpected`; the
    first is written with its traceback into the folder `logs`, or a temporary one.
    """
    try:
        with machine_errors(logs or Path.cwd()):
            return action() or 0
    except ParedownError as error:
        _print_error(f"error: {error}")
        return unexpected if error.exit_code == UNEXPECTED else error.exit_code
    except KeyboardInterrupt:
        _print_error("stopped; run the same command again to go on")
        return INTERRUPTED
    except Exception as error:
        first = str(error).partition("\n")[0]
        _print_error(f"unexpected {type(error).__name__}: {first}; details are in {_write_log(logs)}")
        return unexpected


def _print_error(text: str) -> None:
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
