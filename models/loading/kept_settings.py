"""Settings and random state of the whole process that code of the user's may change: they are put back after it."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def kept_settings() -> Iterator[None]:
    """Puts the working folder back, and torch's gradients, default type and threads. A file that switches gradients off
    for its own inference, or computes in double precision, would do so for all training after it."""
    folder, torch = os.getcwd(), _torch()  # noqa: PTH109  # to be gone back to
    before = None if torch is None else (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())
    try:
        yield
    finally:
        os.chdir(folder)
        if torch is None:
            torch, before = _torch(), None
        if torch is not None:
            gradients, kind, threads = before or (True, torch.float32, None)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(kind)
            torch.set_num_threads(threads or torch.get_num_threads())


@contextmanager
def own_random_state() -> Iterator[None]:
    """Everything random is drawn from one seed in here, and as if nothing had been drawn after it."""
    before, numbers, torch = random.getstate(), np.random.get_state(), _torch()
    random.seed(0)
    np.random.seed(0)
    try:
        if torch is None:
            yield
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                yield
    finally:
        random.setstate(before)
        np.random.set_state(numbers)


def _torch() -> Any:
    """torch, where it is imported already."""
    return sys.modules.get("torch")
