"""The screen in `stages/__init__.py` says what the stages themselves say."""

from pathlib import Path

import pytest

import paredown.stages
from paredown.pipeline.recipe.recipe import DEFAULT
from paredown.stages import plugins

SCREEN = (paredown.stages.__doc__ or "").splitlines()
START = next(number for number, line in enumerate(SCREEN) if line.split()[:1] == ["stage"])
COLUMNS = [SCREEN[START].index(title) for title in ("stage", "needs", "may use", "gives")]
ROWS = SCREEN[START + 1 : START + 11]


def cells(line: str) -> list[str]:
    return [line[start:end].strip() for start, end in zip(COLUMNS, [*COLUMNS[1:], None], strict=True)]


def names(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.split(", "))


def test_every_stage_has_its_row_and_its_sentence() -> None:
    listed = [cells(line)[0] for line in ROWS]
    assert sorted(listed) == plugins.plugin_names("stages")
    sentences = [line.split()[0] for line in SCREEN[START + 12 : START + 22]]
    assert sentences == listed
    assert [name for name in listed if name in DEFAULT] == list(DEFAULT)


@pytest.mark.parametrize("line", ROWS, ids=lambda line: line.split()[0])
def test_rows_are_what_the_stage_declares(line: str) -> None:
    name, needs, uses, gives = cells(line)
    stage = plugins.load_plugin("stages", name, Path())
    assert (names(needs), names(uses), gives) == (stage.needs, stage.uses, stage.gives)


def test_stages_stand_in_an_order_in_which_they_can_run() -> None:
    given: set[str] = set()
    for line in ROWS:
        _, needs, uses, gives = cells(line)
        assert set(names(needs)) | set(names(uses)) <= given
        given.add(gives)
