"""Reads other memory between two runs, as the rest of a program does between two frames of a camera, so that a run
must fetch its weights again."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_MIB = 2**20
LEAST = 32 * _MIB
MOST = 256 * _MIB
"""Bytes that are read between two runs at most: before every run it takes some 16 ms. On a server with a shared cache
of 480 MiB times still grew from 128 to 256 MiB, by up to 23 %, and from there to 1 GiB by 5 to 15 %."""
UNKNOWN = 64 * _MIB
"""Where the system does not tell the caches' sizes."""

CPU = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def cache_sizes(folder: Path = CPU) -> list[int]:
    """Bytes of the caches that hold data, of one core's view, as Linux tells them; empty where nothing is told."""
    caches = [cache for cache in sorted(folder.glob("index*")) if _read(cache / "type") in ("Data", "Unified")]
    texts = [_read(cache / "size") for cache in caches]
    return [int(text[:-1]) * _UNITS[text[-1]] for text in texts if text[:-1].isdecimal() and text[-1] in _UNITS]


def _read(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


def other_memory_size(caches: Sequence[int]) -> int:
    """Bytes to read so that caches of these sizes hold little of a model: twice the largest one, within bounds."""
    return min(max(LEAST, 2 * max(caches)), MOST) if caches else UNKNOWN


@contextmanager
def reading_other_memory(threads: int) -> Iterator[Callable[[], object]]:
    """A call that reads `other_memory_size` bytes in each of `threads` threads: those that compute a model with several
    use the caches of several cores. With one it is the calling thread that reads."""
    # Of ones: pages of zeros that nobody wrote all lie in the same place.
    memory = np.ones(other_memory_size(cache_sizes()) // 4, np.float32)
    if threads == 1:
        yield memory.sum
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda: [one.result() for one in [pool.submit(memory.sum) for _ in range(threads)]]
