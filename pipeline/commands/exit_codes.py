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

UNEXPECTED = 1


INTERRUPTED = 130


def run_guarded(action: Callable[[], None], logs: Path | None = None) -> int:
    """Runs `action` and returns the exit code; failures are told in one line on stderr.

    An unexpected failure is written with its traceback into the folder `logs`, or a temporary one.
    """
    try:
        with machine_errors(logs or Path.cwd()):
            action()
    except ParedownError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped; run the same command again to go on")
        return INTERRUPTED
    except Exception as error:
        first = str(error).partition("\n")[0]
        _say(f"unexpected {type(error).__name__}: {first}; details are in {_write_log(logs)}")
        return UNEXPECTED
    return 0


def _say(text: str) -> None:
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
