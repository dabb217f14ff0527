"""Arrays of images on disk: written in one piece, whole folders at a time, and mapped into memory to read."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.models.errors import MachineError

DAY = 24 * 3600


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well: others see all of it, or nothing.

    If another process was faster its folder stays, for the same name means the same contents. What killed
    processes left behind goes after a day. Raises MachineError where the disk refuses.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f".{folder.name}.*"):
            if old == temporary or time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        if not folder.is_dir():
            temporary.rename(folder)
    except OSError as error:
        raise MachineError(f"{folder.parent}: the decoded images cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_images(path: Path, images: Iterable[NDArray[np.uint8]], count: int, size: int) -> None:
    """Streams `count` images (size, size, 3) into one .npy file.

    Plain writes, not a mapping: a full disk is then an error, and not the death of the process.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for image in images:
            stream.write(np.ascontiguousarray(image).data)
        stream.flush()
        os.fsync(stream.fileno())


def map_images(path: Path) -> NDArray[np.uint8]:
    """A read-only mapping of what `write_images` wrote. Raises MachineError where the file is damaged."""
    try:
        mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise MachineError(f"{path.parent}: damaged, delete this folder ({error})") from error
    return mapped
