"""What tests with made-up bad input share: how often they try, what counts as an answer, and the counts at the end.

`PAREDOWN_FUZZ=20` tries twenty times as often, with other examples each time; without it the same ones are tried.
"""

import contextlib
import io
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from paredown.models.errors import InputError
from paredown.pipeline.cli import main

TIMES = int(os.environ.get("PAREDOWN_FUZZ", "1"))
COUNTS: Counter[tuple[str, str]] = Counter()

Action = Callable[[], object]
Fuzz = Callable[..., None]


def answer(action: Action) -> str:
    """`taken`, or `refused` in one line; any other failure goes up."""
    try:
        action()
    except InputError as error:
        assert str(error).strip()
        assert "Traceback" not in str(error)
        return "refused"
    return "taken"


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """`fuzz(strategy, examples, action)`: calls `action(example)`; it may raise InputError and nothing else."""

    def over(strategy: SearchStrategy[Any], examples: int, action: Callable[[Any], object]) -> None:
        @settings(
            max_examples=examples * TIMES,
            derandomize=TIMES == 1,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # what is tried is small already
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def each(example: Any) -> None:
            COUNTS[request.node.path.stem.removeprefix("test_"), answer(lambda: action(example))] += 1

        each()

    return over


@pytest.fixture
def refused() -> Callable[[Action], str]:
    """The one line with which an action is refused."""

    def line(action: Action) -> str:
        with pytest.raises(InputError) as caught:
            action()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return line


@pytest.fixture
def command() -> Callable[..., tuple[int, str]]:
    """The exit code and stderr of `paredown ...` in this process."""

    def call(*arguments: object) -> tuple[int, str]:
        err, before = io.StringIO(), signal.getsignal(signal.SIGTERM)
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try:
                main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                signal.signal(signal.SIGTERM, before)
        return code, err.getvalue()

    return call


@pytest.fixture
def peak_of() -> Callable[[Action], tuple[str, float]]:
    """What an action answers in a forked process that may use no more than 3 GiB and 60 s of CPU, and the MiB that it
    needed beyond what was there."""

    def forked(action: Action) -> tuple[str, float]:
        reading, writing = os.pipe()
        if not (child := os.fork()):
            _end_with(action, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as stream:
            told = stream.read()
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the process ended with {os.waitstatus_to_exitcode(status)}: {told}"
        said, _, more = told.rpartition(" ")
        return said, float(more)

    return forked


def _end_with(action: Action, writing: int) -> None:
    """In the child: writes the answer and the growth of the peak, and ends."""
    used = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (int((used + 3072) * 2**20),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = _status("VmRSS")
    try:
        said = answer(action)
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    os.write(writing, f"{said} {_status('VmHWM') - before:.1f}".encode())
    os._exit(0)


def _status(field: str) -> float:
    """MiB of this process, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name in sorted({name for name, _ in COUNTS}):
        taken, refusals = COUNTS[name, "taken"], COUNTS[name, "refused"]
        terminalreporter.write_line(
            f"robustness: {name}: {taken + refusals} tried, {refusals} refused in one line, {taken} taken"
        )
