"""What the machine refuses, and what else fails while a recipe is checked, as one line."""

import errno
import os
from pathlib import Path

import pytest

from paredown.models.errors import InputError, MachineError, MissingError
from paredown.pipeline.machine_errors import input_errors, machine_errors


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "where: the disk is full"),
        (OSError(errno.EACCES, "x", "file.txt"), "file.txt: permission denied"),
        (OSError(errno.EROFS, "x"), "where: the file system is read-only"),
        (MemoryError(), "where: out of memory"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), "where: the disk is full"),
        (RuntimeError("[enforce fail at a.cc:6] . unexpected pos 18 vs 12"), "where: the disk is full"),
        (RuntimeError("[a.cc:7] . open file failed with strerror: Permission denied"), "where: permission denied"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "where: the disk is full"),
    ],
)
def test_refusals_of_the_machine(error: Exception, reason: str) -> None:
    with pytest.raises(MachineError) as caught, machine_errors(Path("where")):
        raise error
    assert str(caught.value) == f"{reason}; finished products are kept"


def test_a_refusal_is_found_behind_another_failure() -> None:
    with pytest.raises(MachineError, match="the disk is full"), machine_errors(Path("where")):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("export failed") from error


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), InputError("x")])
def test_other_failures_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, machine_errors(Path("where")):
        raise error
    assert caught.value is error


def test_what_has_no_line_becomes_one() -> None:
    with pytest.raises(InputError) as caught, input_errors("the model cannot be traced", Path("where")):
        raise RuntimeError("cannot find\nthe axis")
    line = str(caught.value)
    assert line.startswith("the model cannot be traced: RuntimeError: cannot find (") and "\n" not in line
    with pytest.raises(MachineError, match="disk is full"), input_errors("no", Path("where")):
        raise OSError(errno.ENOSPC, "x")


def test_what_has_a_line_keeps_it() -> None:
    with pytest.raises(MissingError, match=r"^install it$"), input_errors("no", Path("where")):
        raise MissingError("install it")
