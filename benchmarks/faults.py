"""What becomes of a run when the machine fails it: killed, disk full, read only, started twice, clock, folder gone.

A small network goes through every stage, on a runtime whose times are made up but exact: an undisturbed run has one
possible outcome, and a disturbed one must reach the same, byte by byte. torch is imported once; every run is a process
of its own that is forked before there are threads.

    python benchmarks/faults.py --kills 60
"""

import contextlib
import importlib
import io
import itertools
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from paredown.pipeline.cli import main as paredown
from paredown.pipeline.run.product_record import RECORD
from paredown.pipeline.run.store import ProductStore

HERE = Path(__file__).resolve().parent
LIMITS = "latency_p50: 0.6x, size: 0.6x, accuracy_drop: 100"
STAGES = {
    "fit": "epochs: 2, batch: 16",
    "baseline": "rounds: 1, runs: 1",
    "profile": "plans: 2, images: 16",
    "search": "front: 2, rounds: 2, alternatives: 1",
    "recover": "distil: {epochs: 3, lr: 0.001, batch: 16}, quantize: {epochs: 2, lr: 0.0001, batch: 16}",
    "verify": "rounds: 1, runs: 1",
}
PRODUCTS = 9
NOBODY = 65534
EXPECTED = (0, 5)
"""Exit codes that a fault may end in: it went well all the same, or the machine refused."""
Change = Callable[[], None]


@dataclass(frozen=True)
class Project:
    """A folder with everything that a run needs; `runs` is where it writes."""

    root: Path
    runs: Path

    @property
    def store(self) -> ProductStore:
        return ProductStore(self.runs / ".store")

    def fresh(self, runs: Path) -> "Project":
        return Project(self.root, runs)

    def start(self, before: Change | None = None) -> int:
        """The id of a process that runs the recipe; `before` changes that process first."""
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _become(self, before)
        return child

    def run(self, before: Change | None = None) -> int:
        """The exit code of a run that nobody stops."""
        return ended(self.start(before))

    def log(self) -> str:
        return (self.root / "log.txt").read_text(errors="replace")

    def made(self) -> dict[str, int]:
        """The finished products, with the inode of each: one that was made again has another."""
        return {file.parent.name: file.stat().st_ino for file in self.store.folder.glob(f"objects/*/*/{RECORD}")}

    def whole(self) -> bool:
        """Whether every finished product is as it was checked in."""
        return all(self.store.get(key, repair=False) for key in self.made())

    def outcome(self) -> dict[str, bytes]:
        """Every file of every product that the run shows, without what tells how long something took."""
        shown = self.runs / self.root.name
        files = (file for link in shown.iterdir() if link.is_dir() for file in link.rglob("*") if file.is_file())
        return {str(file.relative_to(shown)): _timeless(file) for file in files if file.name != RECORD}


def _timeless(file: Path) -> bytes:
    if file.suffix != ".json":
        return file.read_bytes()
    return json.dumps(_without_seconds(json.loads(file.read_text())), sort_keys=True).encode()


def _without_seconds(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_seconds(value) for key, value in data.items() if "seconds" not in key}
    return [_without_seconds(value) for value in data] if isinstance(data, list) else data


def _become(project: Project, before: Change | None) -> None:
    """In the child: runs the command and ends."""
    log = os.open(project.root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), line_buffering=True)
    code = 99
    try:
        if before:
            before()
        paredown(["run", str(project.root / f"{project.root.name}.yaml"), "--out", str(project.runs)])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_after(child: int, seconds: float) -> bool:
    """Kills a process after a while; False if it had ended by then."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL


def make_project(root: Path) -> Project:
    """The small network, images and the exact runtime of the tests."""
    import torch

    shared = runpy.run_path(str(HERE.parent / "tests" / "conftest.py"))
    root.mkdir()
    (root / "net.py").write_text(shared["NET"])
    (root / "exact.py").write_text(shared["RUNTIME"])
    names: dict[str, Any] = {}
    exec(shared["NET"], names)
    torch.manual_seed(0)
    torch.save(shared["warmed"](names["net"](3)).state_dict(), root / "net.pth")
    images, labels = shared["coloured_shapes"](160, 24)
    np.savez(root / "images.npz", images=images, labels=labels)
    (root / f"{root.name}.yaml").write_text(
        shared["recipe_text"](LIMITS, model='"net.py:net", weights: net.pth', **STAGES)
    )
    return Project(root, root / "undisturbed")


def warm_up(project: Project) -> None:
    """Imports all that a run imports, which a run in a process of its own tells: here there must be no threads.

    Whether bf16 pays would be measured in every new folder, and so depend on the load: it is answered beforehand.
    """
    from paredown.stages.training import autocast

    vars(autocast)["cpuinfo"] = str
    told = project.root / "modules.txt"

    def tell() -> None:
        vars(os)["_exit"] = lambda code, end=os._exit: end(told.write_text("\n".join([*sys.modules])) and code)

    if project.run(tell) != 0:
        raise click.ClickException(project.log()[-2000:])
    for name in told.read_text().splitlines():
        if not name.startswith(("paredown_", "__", "onnxruntime")):  # onnxruntime starts a thread
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    shutil.rmtree(project.runs)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        raise click.ClickException(f"there are threads already ({names}): nothing can be forked safely")


@dataclass(frozen=True)
class Bench:
    """What every fault is tried with: the undisturbed run, what came of it, and how long it took."""

    project: Project
    outcome: dict[str, bytes]
    seconds: float
    rng: random.Random
    counts: Counter[str]

    def check(self, fault: str, project: Project, before: dict[str, int] | None = None) -> None:
        """Runs to the end, and notes whether anything was lost, made again, or other than undisturbed."""
        code = project.run()
        self.note(fault, "did not end well", code != 0)
        if code != 0:
            click.echo(project.log()[-2000:], err=True)
            return
        outcome = project.outcome()
        other = sorted(name for name in {*outcome, *self.outcome} if outcome.get(name) != self.outcome.get(name))
        self.note(fault, "another outcome", bool(other))
        if other:
            click.echo(f"  {', '.join(other)}", err=True)
        self.note(fault, "store not whole", not project.whole() or (project.store.folder / "damaged").exists())
        made = project.made()
        lost = [key for key, inode in (before or {}).items() if made.get(key) != inode]
        self.note(fault, "finished products lost or made again", bool(lost), len(lost))

    def note(self, fault: str, what: str, happened: bool, number: int = 1) -> None:
        self.counts[f"{fault}: {what}"] += number * happened
        if happened:
            click.echo(f"{fault}: {what}", err=True)

    def tried(self, fault: str, what: str, number: int = 1) -> None:
        self.counts[f"{fault}: {what}"] += number

    def refused(self, fault: str, project: Project, code: int) -> None:
        """Notes how a disturbed run ended: well, or in one line that says why."""
        self.tried(fault, f"ended with {code}")
        lines = [line for line in project.log().splitlines() if line.startswith(("error:", "unexpected"))]
        odd = code not in EXPECTED or (code != 0 and len(lines) != 1) or "Traceback" in project.log()
        self.note(fault, "not told in one line", odd)
        if odd:
            click.echo(project.log()[-2000:], err=True)


def kills(bench: Bench, wanted: int, folder: Path) -> None:
    """Runs that are killed again and again at random moments, each until it comes to its end."""
    fault, done = "killed", 0
    for number in itertools.count():
        project, seen = bench.project.fresh(folder / f"killed-{number}"), dict[str, int]()
        for _ in range(12):
            if not killed_after(project.start(), bench.rng.uniform(0, 0.6 * bench.seconds)):
                break
            done += 1
            made = project.made()
            lost = [key for key, inode in seen.items() if made.get(key) != inode]
            bench.note(fault, "finished products lost or made again", bool(lost), len(lost))
            seen = made
            bench.note(fault, "store not whole", not project.whole())
        bench.check(fault, project, seen)
        bench.tried(fault, "runs")
        shutil.rmtree(project.runs)
        if done >= wanted:
            bench.tried(fault, "kills", done)
            return


@contextlib.contextmanager
def small_disk(place: Path, kib: int) -> Iterator[Path | None]:
    """A file system of its own; None where none may be mounted."""
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def full_disk(bench: Bench, times: int, folder: Path) -> None:
    """A disk that is full, then a little larger, and full again."""
    fault = "disk full"
    needed = sum(file.stat().st_size for file in bench.project.runs.rglob("*") if file.is_file()) // 1024
    with small_disk(folder / "full", 64) as disk:
        if disk is None:
            bench.tried(fault, "not tried: nothing can be mounted here")
            return
        project, seen = bench.project.fresh(disk / "runs"), dict[str, int]()
        for number in range(times):
            remount(disk, f"size={64 + number * needed // times}k")
            code = project.run()
            bench.refused(fault, project, code)
            made = project.made()
            bench.note(fault, "finished products lost or made again", any(made.get(k) != i for k, i in seen.items()))
            seen = made
            bench.note(fault, "store not whole", not project.whole())
        remount(disk, f"size={4 * needed + 4096}k")
        bench.check(fault, project, seen)


def read_only(bench: Bench, times: int, folder: Path) -> None:
    """A folder that may no longer be written to from a random moment on; root may write anywhere, so it is not root."""
    fault = "read only"
    project, seen = bench.project.fresh(folder / "sealed"), dict[str, int]()
    project.runs.mkdir()
    for number in range(times):
        _give(project.runs, 0o755)
        child = project.start(_unprivileged)
        time.sleep(bench.rng.uniform(0, 0.5 * bench.seconds) if number else 0)
        _give(project.runs, 0o555)
        bench.refused(fault, project, ended(child))
        made = project.made()
        bench.note(fault, "finished products lost or made again", any(made.get(k) != i for k, i in seen.items()))
        seen = made
    _give(project.runs, 0o755)
    bench.check(fault, project, seen)


def _unprivileged() -> None:
    if os.getuid() == 0:
        os.setuid(NOBODY)


def _give(folder: Path, mode: int) -> None:
    """Everything in a folder to the process that runs there, folders with a mode."""
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if os.getuid() == 0:
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            if path.is_dir() and not path.is_symlink():
                path.chmod(mode)


def twice(bench: Bench, times: int, folder: Path) -> None:
    """Two runs in one folder, the second one a moment after the first."""
    fault = "two at once"
    for number in range(times):
        project = bench.project.fresh(folder / f"twice-{number}")
        other = Project(bench.project.root, project.runs)
        first = project.start()
        time.sleep(bench.rng.uniform(0, 0.5 * bench.seconds))
        second = other.start()
        codes = sorted([ended(first), ended(second)])
        bench.tried(fault, f"ended with {codes[0]} and {codes[1]}")
        bench.note(fault, "not one that ran and one that was refused", codes not in ([0, 5], [0, 0]))
        bench.check(fault, project, project.made())
        shutil.rmtree(project.runs)


def jumping_clock(seed: int) -> None:
    """Makes this process's time of day jump by up to three years both ways, at every second look.

    The monotonic clock cannot jump. Were it to, a solver would think that its time is up, and may keep fewer plans.
    """
    rng, real = random.Random(seed), time.time
    vars(time)["time"] = lambda: real() + rng.choice([0, 0, 1, -1]) * rng.choice([1, 3600, 10**8])


def clocks(bench: Bench, times: int, folder: Path) -> None:
    """A clock that jumps at every look."""
    for number in range(times):
        project = bench.project.fresh(folder / f"clock-{number}")
        seed = bench.rng.randrange(2**32)
        bench.refused("clock jumps", project, project.run(lambda seed=seed: jumping_clock(seed)))  # type: ignore[misc]
        bench.check("clock jumps", project, project.made())
        shutil.rmtree(project.runs)


def removed(bench: Bench, times: int, folder: Path) -> None:
    """A folder that somebody removes while the run goes on: all of it, the store, or what is being made."""
    fault = "folder removed"
    for number in range(times):
        project = bench.project.fresh(folder / f"removed-{number}")
        child = project.start()
        time.sleep(bench.rng.uniform(0.05, 0.8 * bench.seconds))
        shutil.rmtree(project.runs / ("", ".store", ".store/work", ".cache")[number % 4], ignore_errors=True)
        bench.refused(fault, project, ended(child))
        bench.check(fault, project)
        shutil.rmtree(project.runs)


def table(bench: Bench) -> str:
    """Everything that was counted, as lines of Markdown."""
    rows = [f"| {name.partition(': ')[0]} | {name.partition(': ')[2]} | {n} |" for name, n in bench.counts.items()]
    return "\n".join(["| fault | what | how often |", "| --- | --- | --- |", *rows])


WRONG = ("another outcome", "lost or made again", "not whole", "not end well", "not told", "not one that ran")


@click.command()
@click.option("--kills", "wanted", default=60, show_default=True, help="How often runs are killed.")
@click.option("--times", default=12, show_default=True, help="How often every other fault is tried.")
@click.option("--seed", default=5, show_default=True)
def main(wanted: int, times: int, seed: int) -> None:
    """Ends with 1 where anything was lost, made again, or came out differently."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        project = make_project(folder / "demo")
        warm_up(project)
        start = time.monotonic()
        if project.run() != 0:
            raise click.ClickException(project.log()[-2000:])
        seconds = time.monotonic() - start
        bench = Bench(project, project.outcome(), seconds, random.Random(seed), Counter())
        assert len({name.partition("/")[0] for name in bench.outcome}) == PRODUCTS
        click.echo(f"undisturbed: {seconds:.1f} s, {len(bench.outcome)} files", err=True)
        kills(bench, wanted, folder)
        for fault in (full_disk, read_only, twice, clocks, removed):
            fault(bench, times, folder)
        wrong = sum(number for name, number in bench.counts.items() if any(word in name for word in WRONG))
        click.echo(table(bench))
        click.echo(f"faults: {bench.counts['killed: kills']} kills, {times} times every other one, {wrong} gone wrong")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
