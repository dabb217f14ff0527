"""Talks to a process in a sidecar: a request and a reply are one JSON line each, arrays are files.

The process may hang or die at any time, and takes nothing with it: it is started again once, then an error names it.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from paredown.models.errors import MissingError, ParedownError
from paredown.stages.runtimes.sidecars import serve
from paredown.stages.runtimes.support.standalone import SessionError

DEADLINE = 600.0
"""Seconds that a reply may take: one round of a measurement, with all that must be compiled for it."""

DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_PRELOAD")


class DiedError(Exception):
    """The process ended before it replied; the text says how, in one line."""


@dataclass(frozen=True)
class RunningProcess:
    """A started process and the file that its stderr goes to."""

    process: subprocess.Popen[str]
    errors: IO[bytes]


class SidecarWorker:
    """The verbs of `script`, run by the interpreter `python` of the sidecar `name` in a process of their own.

    It starts with the first request and ends with the block: `with SidecarWorker(...) as worker: worker.ask("ping")`.
    """

    def __init__(self, name: str, python: Path, script: Path, deadline: float = DEADLINE) -> None:
        self.name, self.command, self.deadline = name, [str(python), "-I", serve.__file__, str(script)], deadline
        self.running: RunningProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, verb: str, **arguments: object) -> Any:
        """The verb's result, from a second process where the first one died.

        Raises SessionError where the arguments are refused, kill both processes, or take longer than the deadline;
        ParedownError where the sidecar itself is broken.
        """
        try:
            return self._ask(verb, arguments)
        except DiedError:
            try:
                return self._ask(verb, arguments)
            except DiedError as error:
                raise SessionError(f"its process died, and died again when started anew: {error}") from error

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self.running is not None:
            self.running.process.kill()
            self.running.process.communicate()
            self.running.errors.close()
            self.running = None

    def _ask(self, verb: str, arguments: Mapping[str, object]) -> Any:
        process = self._started().process
        assert process.stdin is not None and process.stdout is not None
        with killed_after(process, self.deadline) as late:
            try:
                process.stdin.write(json.dumps({"verb": verb, "arguments": arguments}) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if late.is_set():
            self.close()
            raise SessionError(f"it was stopped after {self.deadline:g} s without an answer to '{verb}'")
        return self._result(line) if line.endswith("\n") else self._mourn()

    def _started(self) -> RunningProcess:
        if self.running is None:
            errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            try:
                process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=clean_environment(),
                    start_new_session=True,  # Ctrl-C is for the parent, which ends the process
                )
            except OSError as error:
                errors.close()
                reason = f"{self.command[0]} cannot be started: {error.strerror}"
                raise MissingError(f"{reason}; install it again: paredown runtime install {self.name}") from error
            self.running = RunningProcess(process, errors)
        return self.running

    def _result(self, line: str) -> Any:
        try:
            reply = json.loads(line)
        except ValueError as error:
            self.close()
            raise ParedownError(f"{self.name}: its process wrote no JSON but {line.strip()[:80]!r}") from error
        if "refused" in reply:
            raise SessionError(reply["refused"])
        if "failed" in reply:
            raise ParedownError(f"{self.name}: its process failed: {reply['failed']}")
        return reply["result"]

    def _mourn(self) -> Any:
        running = self._started()
        code = running.process.wait()
        running.errors.seek(0)
        words = error_line(running.errors.read().decode(errors="replace"))
        self.close()
        raise DiedError(f"{how_it_died(code)}{': ' if words else ''}{words}")


@contextmanager
def killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kills the process when the time is up; the event says whether that happened."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead another interpreter to this one's packages."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return {**kept, "NM_DISABLE_ANALYTICS": "1"}


def how_it_died(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def error_line(text: str) -> str:
    """The line of stderr that says most: the last one about an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("Assertion") or "Error" in line]
    return (telling or lines or [""])[-1][:200]
