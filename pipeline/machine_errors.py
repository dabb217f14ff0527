"""What the machine refuses (a full disk, permissions, memory) as MachineErrors of one line; and what else fails while a
recipe is checked as InputErrors of one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paredown.models.errors import InputError, MachineError, ParedownError
from paredown.models.loading.code_places import fault_of

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
def machine_errors(where: Path) -> Iterator[None]:
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


@contextmanager
def input_errors(what: str, where: Path) -> Iterator[None]:
    """Turns any failure that has no line yet into an InputError: `what` failed, the error's type and text, and the
    place in the user's code if it came out of that; what the machine refuses stays a MachineError."""
    try:
        with machine_errors(where):
            yield
    except ParedownError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {fault_of(error)}") from error


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
