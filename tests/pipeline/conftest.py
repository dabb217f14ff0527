"""Recipes made of small stages in a temporary folder: no model, no images, no torch."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

Write = Callable[..., Path]

_STAGE = '''
"""A stage for tests."""

from typing import ClassVar

from paredown.models.errors import LimitError
from paredown.models.spec import Spec


class TestStage(Spec):
    needs: ClassVar[tuple[str, ...]] = {needs}
    uses: ClassVar[tuple[str, ...]] = {uses}
    gives: ClassVar[str] = "{gives}"
    reads: ClassVar[tuple[str, ...]] = {reads}
    {extra}

    steps: int = 1

    def run(self, state):
        with (state.root / "ran.txt").open("a") as file:
            file.write("{gives}\\n")
{body}


PLUGIN = TestStage
'''

_RUNTIME = """
from typing import ClassVar


class TestRuntime:
    REQUIRES: ClassVar[dict[str, str]] = {}


PLUGIN = TestRuntime
"""

_HEAD = """
model: {source: net.py:make}
data: {source: images, image_size: 32}
target: {runtime: runtime.py}
"""


@pytest.fixture
def write_stage(tmp_path: Path) -> Write:
    """Writes `<gives>.py`, a stage whose `run` is `body` (after it noted its name in `ran.txt`)."""

    def write(
        gives: str,
        body: str = '(state.out / "value").write_text(str(self.steps))',
        needs: tuple[str, ...] = (),
        uses: tuple[str, ...] = (),
        reads: tuple[str, ...] = (),
        extra: str = "",
    ) -> Path:
        lines = indent(dedent(body), " " * 8)
        text = _STAGE.format(gives=gives, body=lines, needs=needs, uses=uses, reads=reads, extra=extra)
        file = tmp_path / f"{gives}.py"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def write_recipe(tmp_path: Path) -> Write:
    """Writes a recipe: `pipeline` as YAML lines, and the rest."""

    def write(pipeline: str, limits: str = "{size: 0.5x}", rest: str = "", name: str = "demo") -> Path:
        (tmp_path / "runtime.py").write_text(_RUNTIME)
        file = tmp_path / f"{name}.yaml"
        listed = indent(dedent(pipeline).strip(), "  ")
        file.write_text(f"{_HEAD.strip()}\nlimits: {limits}\n{rest}\npipeline:\n{listed}\n")
        return file

    return write


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[str]]:
    """The stages that really ran since the last call."""

    def read() -> list[str]:
        file = tmp_path / "ran.txt"
        names = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return names

    return read
