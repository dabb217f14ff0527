"""Failures as exit codes: an expected one is a single line, an unexpected one leaves a log file."""

import errno
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from paredown.models.spec import MachineError, ParedownError

UNEXPECTED = 1
INTERRUPTED = 130

REMOVED = "it was removed while the run was going on"

_ERRNOS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EMFILE: "too many open files",
    errno.EIO: "the disk reports an input/output error",
}
# Libraries that write from C++ (torch, safetensors, onnx) report a full disk in words only.
_WORDS = {
    "No space left on device": "the disk is full",
    "PytorchStreamWriter failed writing": "the disk is full",
    "] . unexpected pos": "the disk is full",  # of the same writer, where a file was cut short
    "open file failed with strerror: Permission denied": "permission denied",
    "can't allocate memory": "out of memory",
}


@contextmanager
def machine(where: Path) -> Iterator[None]:
    """Turns what the machine refuses (disk, permissions, memory) into one MachineError line."""
    try:
        yield
    except ParedownError:
        raise
    except Exception as error:
        removed = isinstance(error, FileNotFoundError) and not where.parent.exists()
        if reason := REMOVED if removed else _refusal(error):
            file = getattr(error, "filename", None) or where
            raise MachineError(f"{file}: {reason}; finished products are kept") from error
        raise


def run_guarded(action: Callable[[], None], logs: Path | None = None) -> int:
    """Runs `action` and returns the exit code; failures are told in one line on stderr.

    An unexpected failure is written with its traceback into the folder `logs`, or a temporary one.
    """
    try:
        with machine(logs or Path.cwd()):
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


def _refusal(error: BaseException | None) -> str | None:
    """Why the machine refused, looking through the chain of causes; None for any other failure."""
    while error is not None:
        if isinstance(error, MemoryError):
            return "out of memory"
        if isinstance(error, OSError) and error.errno in _ERRNOS:
            return _ERRNOS[error.errno]
        if reason := next((reason for words, reason in _WORDS.items() if words in str(error)), None):
            return reason
        error = error.__cause__ or error.__context__
    return None


def _say(text: str) -> None:
    print(harmless(text), file=sys.stderr)


def harmless(text: str) -> str:
    """Text for a terminal: names that strangers chose may hold characters that steer it."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


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
