"""Interpreters of their own for packages that cannot live beside the others: made on request, never silently.

A sidecar is a folder with a virtual environment and, written last, a stamp that says what is in it. It is made under
another name and renamed, so that one which was left half made is never used.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from paredown.models.errors import InputError, MachineError, MissingError
from paredown.stages.runtimes.sidecars.worker import clean_environment

STAMP = "sidecar.json"

# venv and ensurepip are imported because some systems leave them out.
_ASK_VERSION = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True)
class Sidecar:
    """What is installed in a sidecar, by which Python versions (the first is tried first), and its terms.

    `obstacle` says in a few words why this machine cannot run it, or nothing; `licence` is the part of the
    licence's text in the environment, as a glob below its site-packages.
    """

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]
    size: str
    terms: str
    licence: str
    obstacle: Callable[[], str] = lambda: ""

    @property
    def folder(self) -> Path:
        return sidecars_folder() / self.name

    @property
    def python(self) -> Path:
        """Its interpreter; raises MissingError where it is not installed."""
        if line := self.missing():
            raise MissingError(line)
        return interpreter_in(self.folder)

    @property
    def command(self) -> str:
        return f"paredown runtime install {self.name}"

    def check(self) -> None:
        """Raises MissingError where this machine cannot run it at all."""
        if self.obstacle():
            raise MissingError(str(self.missing()))

    def missing(self) -> str | None:
        """One line that says why it cannot be used and what helps; None where it can."""
        if why := self.obstacle():
            return f"{self.name} cannot run here: {why}; the default runtime, onnxruntime, can"
        stamp = self.stamp()
        if stamp is None:
            return f"{self.name} needs its own interpreter, which is not installed: {self.command}"
        if stamp["requirements"] != list(self.requirements):
            return f"{self.name} was installed from other requirements than this version's: {self.command}"
        return None

    def stamp(self) -> dict[str, list[str]] | None:
        """`requirements` that were asked for and `packages` that they brought; None where it is not there."""
        file = self.folder / STAMP
        return dict(json.loads(file.read_text())) if file.is_file() else None

    def installed_version(self, package: str) -> str:
        """The version of one of its packages."""
        packages = (self.stamp() or {}).get("packages", [])
        return next((line.partition("==")[2] for line in packages if line.startswith(f"{package}==")), "unknown")

    def licence_file(self) -> Path | None:
        """The licence's text where it is installed."""
        return next(iter(sorted(self.folder.glob(f"lib/*/site-packages/{self.licence}"))), None)

    def interpreter(self, wanted: Path | None = None) -> Path:
        """One that can make it: `wanted`, else this one or one on the PATH. Every one is run to see what it is."""
        if wanted is not None:
            if (version := version_of(wanted)) not in self.pythons:
                got = f"is Python {version}" if version else "does not run as a Python that has venv and ensurepip"
                raise InputError(f"{wanted} {got}; {self.name} needs one of {', '.join(self.pythons)}")
            return wanted
        for path in python_candidates(self.pythons):
            if version_of(path) in self.pythons:
                return path
        looked = ", ".join(self.pythons)
        raise MissingError(f"{self.name} needs one of Python {looked}; none is on the PATH: --python PATH names one")

    def install(self, wanted: Path | None = None) -> Path:
        """Makes it anew and gives its folder. Raises MachineError, which names pip's log, where that fails."""
        self.check()
        base = self.interpreter(wanted)
        sidecars_folder().mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.name) as folder:
            with install_log_of(self.name) as log:
                run_installer([str(base), "-m", "venv", str(folder)], log)
                pip = [str(interpreter_in(folder)), "-I", "-m", "pip", "--disable-pip-version-check"]
                run_installer([*pip, "install", "--prefer-binary", *self.requirements], log)
                frozen = subprocess.run(
                    [*pip, "freeze"], capture_output=True, text=True, check=False, env=clean_environment()
                )
            if frozen.returncode:
                raise MachineError(f"pip freeze ended with {frozen.returncode}: {frozen.stderr.strip()[-200:]}")
            stamp = {"requirements": list(self.requirements), "packages": frozen.stdout.split()}
            (folder / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
            shutil.rmtree(self.folder, ignore_errors=True)
            folder.rename(self.folder)
        return self.folder

    def remove(self) -> bool:
        """Removes it with what was left half made; False where there was nothing."""
        places = [self.folder, *sidecars_folder().glob(f".{self.name}-*")]
        there = [folder for folder in places if folder.is_dir()]
        for folder in there:
            shutil.rmtree(folder)
        return bool(there)


def sidecars_folder() -> Path:
    """Where all sidecars are: `$PAREDOWN_SIDECARS`, else in the user's data folder."""
    if chosen := os.environ.get("PAREDOWN_SIDECARS"):
        return Path(chosen).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "paredown" / "sidecars"


def interpreter_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_candidates(pythons: Sequence[str]) -> Iterator[Path]:
    """This interpreter, then every file on the PATH that is named after a version, the first version first."""
    yield Path(sys.executable)
    for version in pythons:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            file = Path(folder) / f"python{version}"
            if folder and file.is_file():
                yield file


def version_of(python: Path) -> str:
    """`3.11`, or nothing where it does not run (a pyenv shim may not) or cannot make environments."""
    try:
        done = subprocess.run([str(python), "-I", "-c", _ASK_VERSION], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder to make a sidecar in, which is removed unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=sidecars_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def install_log_of(name: str) -> Iterator[IO[str]]:
    """A file for what pip says, kept only where the installation fails."""
    with tempfile.NamedTemporaryFile("w", prefix=f"paredown-{name}-", suffix=".log", delete=False) as log:
        yield log
    Path(log.name).unlink()


def run_installer(command: Sequence[str], log: IO[str]) -> None:
    """Runs an installing command. Raises MachineError with the last line of its output and the log's name."""
    done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=clean_environment(), check=False)
    if done.returncode:
        log.flush()
        lines = [line.strip() for line in Path(log.name).read_text().splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no output"])[-1])
        raise MachineError(f"{' '.join(command[1:5])} ended with {done.returncode}: {last} (all of it: {log.name})")
