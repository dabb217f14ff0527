"""Pickles of strangers, read through without running them.

torch loads them with few functions allowed, but a tuple that holds another one twice, which holds another one twice,
and so on, takes a lifetime to hash as a key.
"""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from paredown.models.archive import check_archive
from paredown.models.spec import InputError

DEEPEST = 16
"""Tuples in tuples; a state_dict has three."""
_MARK = -1
_PARTS = 5
"""Pickles that torch's format before 1.6 starts with; the weights follow."""


def check_pickles(path: Path) -> None:
    """Raises InputError where a checkpoint of torch nests tuples more than `DEEPEST` times, or is no pickle."""
    try:
        if is_zip(path):
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                found = [_depth(archive.read(name)) for name in archive.namelist() if name.endswith(".pkl")]
        else:
            found = list(_in_file(path))
    except (OSError, ValueError, LookupError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: corrupt, cannot be read as a checkpoint ({type(error).__name__})") from error
    if max(found, default=0) > DEEPEST:
        raise InputError(f"{path}: nests tuples more than {DEEPEST} times, as no state_dict does")


def is_zip(path: Path) -> bool:
    """Whether torch takes a file for an archive: by its first bytes, so that a pickle with one at its end is none."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _in_file(path: Path) -> Iterator[int]:
    with path.open("rb") as stream:
        for _ in range(_PARTS):
            yield _depth(stream)


def _depth(pickled: bytes | IO[bytes]) -> int:
    """How deep tuples are nested, of the first pickle in a file; it is read no further where that is too deep."""
    stack: list[int] = []
    memo: dict[Any, int] = {}
    most = 0
    for op, argument, _ in pickletools.genops(pickled):
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if op.name == "MEMOIZE" else argument] = stack[-1]
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif op.name == "MARK":
            stack.append(_MARK)
        elif op.name == "DUP":
            stack.append(stack[-1])
        else:
            inside = max(_popped(stack, op), default=0)
            stack += [inside + ("TUPLE" in op.name)] * len(op.stack_after)
        most = max(most, stack[-1] if stack else 0)
        if most > DEEPEST:
            break
    return most


def _popped(stack: list[int], op: pickletools.OpcodeInfo) -> list[int]:
    """What an operation takes off the stack."""
    found: list[int] = []
    before = list(op.stack_before)
    if pickletools.markobject in before:
        while (top := stack.pop()) != _MARK:
            found.append(top)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        found.append(stack.pop())
    return found
