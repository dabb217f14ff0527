"""Independent tasks side by side in threads, one core each: small networks keep no more than one core busy."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """The tasks' results, in order; an error ends what has not started.

    Every task computes on one core, so what comes out does not depend on how many there are.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # Threads that start later would take over the workers' one core.


def workers_for(device: torch.device) -> int:
    """The number of tasks at a time: as many as torch may use cores, one where a GPU does the work."""
    return torch.get_num_threads() if device.type == "cpu" else 1
