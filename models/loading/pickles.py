"""Pickles of unknown origin, read through without running them.

torch loads them with few functions allowed, but a tuple that holds another one twice, which holds another one twice,
and so on, takes a lifetime to hash as a key.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

from paredown.models.errors import InputError
from paredown.models.loading.archives import check_archive

DEEPEST = 16
"""Tuples in tuples; a state_dict has three."""
_MARK = -1
_PARTS = 5
"""Pickles that torch's format before 1.6 starts with; the weights follow."""


class _TooDeepError(Exception):
    """Tuples are nested too often."""


def check_pickles(path: Path) -> None:
    """Raises InputError where a checkpoint of torch nests tuples more than `DEEPEST` times, or is no pickle."""
    try:
        if is_zip(path):
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                for name in (one for one in archive.namelist() if one.endswith(".pkl")):
                    _read_through(archive.read(name))
        else:
            with path.open("rb") as stream:
                for _ in range(_PARTS):
                    _read_through(stream)
    except InputError:
        raise
    except _TooDeepError as error:
        raise InputError(f"{path}: nests tuples more than {DEEPEST} times, as no state_dict does") from error
    except Exception as error:  # truncated files surface as many types
        raise InputError(f"{path}: corrupt, cannot be read as a checkpoint ({type(error).__name__})") from error


def is_zip(path: Path) -> bool:
    """Whether torch takes a file for an archive: by its first bytes, so that a pickle with one at its end is none."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _read_through(pickled: bytes | IO[bytes]) -> None:
    """Follows how deep the tuples on the stack are nested, over the first pickle of a file.

    Raises _TooDeepError at the first that is nested too deep.
    """
    stack: list[int] = []
    stored: dict[Any, int] = {}
    for op, argument, _ in pickletools.genops(pickled):
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            stored[len(stored) if op.name == "MEMOIZE" else argument] = stack[-1]
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(stored[argument])
        elif op.name == "MARK":
            stack.append(_MARK)
        elif op.name == "DUP":
            stack.append(stack[-1])
        else:
            inside = max(_popped(stack, op), default=0)
            stack += [inside + ("TUPLE" in op.name)] * len(op.stack_after)
        if stack and stack[-1] > DEEPEST:
            raise _TooDeepError


def _popped(stack: list[int], op: pickletools.OpcodeInfo) -> list[int]:
    """What an operation takes off the stack."""
    taken: list[int] = []
    before = list(op.stack_before)
    if pickletools.markobject in before:
        while (top := stack.pop()) != _MARK:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.append(stack.pop())
    return taken
