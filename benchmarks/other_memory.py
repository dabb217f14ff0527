"""How much other memory must be read between two runs for the times of ONNX files to stop growing, and what that costs.

Sizes are tried in shuffled order, each once per round, so that a drifting machine does not look like a cache. `0` is a
run in a loop. Times are medians over the rounds, of onnxruntime.
"""

from pathlib import Path

import click
import numpy as np

from paredown.stages.runtimes.onnxruntime import OnnxRuntime, warm_session
from paredown.stages.runtimes.support.ort_session import open_session
from paredown.stages.runtimes.support.other_memory import cache_sizes, other_memory_size
from paredown.stages.runtimes.support.timing import collector_off, pick_clock

SIZES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""MiB."""


def medians(file: Path, threads: int, batch: int, rounds: int) -> dict[int, tuple[float, float]]:
    """Size in MiB to the ms of a run after so much other memory was read, and the ms of reading it."""
    call, clock = warm_session(open_session(file, threads), batch, [0]), pick_clock(threads)
    memory, rng = np.ones(SIZES[-1] * 2**18, np.float32), np.random.default_rng(0)
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with collector_off():
        for _ in range(rounds):
            for size in rng.permutation(SIZES):
                for _ in range(0 if size else 3):
                    call()
                start = clock()
                memory[: size * 2**18].sum()
                middle = clock()
                call()
                times[size].append((clock() - middle, middle - start))
    return {size: tuple(1e3 * np.median(found, axis=0)) for size, found in times.items()}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--threads", default=1, show_default=True)
@click.option("--batch", default=1, show_default=True, help="As in the files, where they fix it.")
@click.option("--rounds", default=25, show_default=True)
def main(files: tuple[Path, ...], threads: int, batch: int, rounds: int) -> None:
    """Time FILES after ever more other memory."""
    found = [medians(file, threads, batch, rounds) for file in files]
    click.echo(f"| MiB read between runs | reading (ms) | {' | '.join(f'{file.name} (ms)' for file in files)} |")
    click.echo(f"| {' | '.join(['---'] * (2 + len(files)))} |")
    for size in SIZES:
        read = np.median([one[size][1] for one in found])
        click.echo(f"| {size} | {read:.1f} | {' | '.join(f'{one[size][0]:.3f}' for one in found)} |")
    caches = ", ".join(f"{size / 2**20:g}" for size in cache_sizes()) or "not told"
    runtime = OnnxRuntime()
    here = f"{runtime.version()}, {runtime.machine()['cpu']}, {threads} threads, batch {batch}, {rounds} rounds"
    click.echo(f"\n{here}; caches (MiB): {caches}; paredown reads {other_memory_size(cache_sizes()) // 2**20} MiB.")


if __name__ == "__main__":
    main()
