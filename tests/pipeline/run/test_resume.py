"""A run that is killed at any moment goes on, gives the same result, and never shows half a product."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import MachineError
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline

Write = Callable[..., Path]

COUNT = """
import os, time
done = state.out / "done"
start = int(done.read_text()) if done.exists() else 0
before = sum(int((state.product(name) / "done").read_text()) for name in self.needs)
for i in range(start, self.steps):
    time.sleep(0.01)
    (state.out / f"step-{i}").write_text(str(before + i * i))
    fresh = state.out / "done.new"
    fresh.write_text(str(i + 1))
    os.replace(fresh, done)
"""

RUN = "from pathlib import Path; from paredown.pipeline.recipe.recipe import load_recipe; \
from paredown.pipeline.run.runner import run_pipeline; run_pipeline(load_recipe('demo.yaml'), Path('runs'))"

KILLED_AT_EVERY_CALL = """
import os, signal, sys
from pathlib import Path
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.runner import run_pipeline

recipe, calls = load_recipe("demo.yaml"), 0
run_pipeline(recipe, Path("warm"))

def counted(real, at):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

def attempt(folder, at):
    pid = os.fork()
    if pid == 0:
        os.fsync = counted(os.fsync, at)
        for name in ("rename", "replace", "symlink_to", "unlink", "mkdir"):
            setattr(Path, name, counted(getattr(Path, name), at))
        run_pipeline(recipe, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

at = 1
while (code := attempt(Path(f"runs-{at}"), at)) == -signal.SIGKILL:
    assert attempt(Path(f"runs-{at}"), 0) == 0
    at += 1
assert code == 0
print(at)
"""


@pytest.fixture
def counting(write_stage: Write, write_recipe: Write) -> Path:
    write_stage("first", COUNT)
    write_stage("second", COUNT, needs=("first",))
    return write_recipe("- first.py: {steps: 20}\n- second.py: {steps: 30}")


def products(folder: Path) -> dict[str, str]:
    """All files that a run shows, without what says how long it took."""
    files = (file for name in ("first", "second") for file in (folder / "demo" / name).glob("*"))
    return {f"{file.parent.name}/{file.name}": file.read_text() for file in files if file.suffix != ".json"}


def shown_products_are_whole(folder: Path, whole: dict[str, str]) -> bool:
    shown = {link.name for link in (folder / "demo").glob("*") if link.is_symlink()}
    return products(folder) == {name: text for name, text in whole.items() if name.split("/")[0] in shown}


def test_killed_at_random_moments(counting: Path, tmp_path: Path) -> None:
    run_pipeline(load_recipe(counting), tmp_path / "reference")
    whole = products(tmp_path / "reference")
    assert len(whole) == 20 + 30 + 2
    moments, kills = random.Random(4), 0
    for _ in range(5):
        (tmp_path / "ran.txt").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path)
        while not (tmp_path / "ran.txt").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.13))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert shown_products_are_whole(tmp_path / "runs", whole)
    assert kills >= 3
    subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, check=True)
    assert products(tmp_path / "runs") == whole


def test_killed_before_every_single_change_of_the_store(
    write_stage: Write, write_recipe: Write, tmp_path: Path
) -> None:
    write_stage("first", COUNT)
    write_stage("second", COUNT, needs=("first",))
    write_recipe("- first.py: {steps: 2}\n- second.py: {steps: 1}")
    script = [sys.executable, "-W", "ignore", "-c", KILLED_AT_EVERY_CALL]
    done = subprocess.run(script, cwd=tmp_path, check=True, capture_output=True, text=True)
    last = int(done.stdout)
    assert last > 30
    whole = products(tmp_path / f"runs-{last}")
    assert len(whole) == 5
    assert all(products(tmp_path / f"runs-{at}") == whole for at in range(1, last))


def test_a_killed_run_lets_go_of_the_lock(counting: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path)
    while not (tmp_path / "ran.txt").exists():
        time.sleep(0.005)
    with pytest.raises(MachineError, match="another run is going on"):
        run_pipeline(load_recipe(counting), tmp_path / "runs")
    process.kill()
    process.wait()
    run_pipeline(load_recipe(counting), tmp_path / "runs")


@dataclass
class Refusing:
    """Lets `left` calls through, and refuses the next one."""

    number: int
    left: int

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_refusing_disk_is_one_line_and_loses_nothing(
    counting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The disk refuses at one change of the store after another."""
    recipe, runs = load_recipe(counting), tmp_path / "runs"
    for refusals in range(6):
        refusing = Refusing(number, left=5 * refusals)
        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace")):
                patch.setattr(owner, name, refusing.around(getattr(owner, name)))
            with pytest.raises(MachineError) as caught:
                run_pipeline(recipe, runs)
        assert "\n" not in str(caught.value)
    run_pipeline(recipe, runs)
    run_pipeline(recipe, tmp_path / "reference")
    assert products(runs) == products(tmp_path / "reference")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(small_disk: Path, write_stage: Write, write_recipe: Write, tmp_path: Path) -> None:
    write_stage("first")
    write_stage("second", '(state.out / "value").write_bytes(bytes(400_000))', needs=("first",))
    recipe = load_recipe(write_recipe("- first.py\n- second.py"))
    with pytest.raises(MachineError, match="the disk is full; finished products are kept"):
        run_pipeline(recipe, small_disk / "runs")
    assert (small_disk / "runs" / "demo" / "first" / "value").read_text() == "1"
    assert not (small_disk / "runs" / "demo" / "second").exists()


def test_an_unwritable_place_is_one_line(counting: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(MachineError, match="runs"):
        run_pipeline(load_recipe(counting), tmp_path / "runs")
