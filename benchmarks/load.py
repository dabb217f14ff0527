"""A machine that is not ours alone: processes that compute, stream memory and run Python, in bursts of random length.

`python benchmarks/load.py --processes 2 --seconds 60` keeps two cores busy for a minute.
"""

import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import numpy as np

BURST = (0.05, 0.6)
"""Seconds."""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many busy processes while the block runs."""
    workers = [multiprocessing.Process(target=burn, args=(seed,), daemon=True) for seed in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def burn(seed: int) -> None:
    """Never returns. What others feel most is the memory: 64 MiB are streamed through the caches."""
    rng, small, large = random.Random(seed), np.ones((300, 300), np.float32), np.zeros(2**24, np.float32)
    kinds = (lambda: small @ small, lambda: np.add(large, 1, out=large), lambda: sum(i * i for i in range(20_000)))
    while True:
        work, end = rng.choice(kinds), time.monotonic() + rng.uniform(*BURST)
        while time.monotonic() < end:
            work()


@click.command()
@click.option("--processes", default=2, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
def main(processes: int, seconds: float) -> None:
    """Keep cores busy for a while."""
    with busy(processes):
        time.sleep(seconds)


if __name__ == "__main__":
    main()
