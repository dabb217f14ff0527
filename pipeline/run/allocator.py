"""Keeps freed memory in the process: training frees and asks for the same large tensors again in every step."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_pages() -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system; elsewhere this does nothing.

    Fresh pages have to be zeroed by the kernel. On a busy 2-core virtual machine that alone made a training step of
    MobileNetV2 ten times slower; on an idle one it costs up to a quarter.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
