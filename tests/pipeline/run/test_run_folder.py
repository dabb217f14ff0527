"""A run's folder as data: what is there, what is not, and why."""

from pathlib import Path

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.run.run_folder import read_run_folder
from paredown.pipeline.run.runner import REFUSAL
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.plan import Plan
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that its search ended, after a training."""
    for product in ("original", "compressed", "plan"):
        (tmp_path / "demo" / product).mkdir(parents=True)
    TrainingCurve((TrainingEpoch("fit", 1, 0.5, 80.0, 9.0),)).save(tmp_path / "demo" / "original")
    Plan(choice={"narrow:stem": "8"}, predicted=CostSummary(1.0, 2.0), feasible=False).save(tmp_path / "demo" / "plan")
    (tmp_path / "demo" / "plan" / REFUSAL).write_text("no plan meets the limits\n")
    (tmp_path / "demo" / "plan" / "notes.txt").write_text("one\ntwo\n")
    (tmp_path / "demo" / "timings.json").write_text('{"fit": 1.5}')
    return tmp_path / "demo"


def test_products_are_typed_and_what_is_not_there_is_none(folder: Path) -> None:
    run = read_run_folder(folder)
    assert run.plan is not None and run.plan.choice == {"narrow:stem": "8"}
    assert [epoch.phase for epoch in run.epochs] == ["fit"]
    assert (run.manifest, run.baseline, run.recovery) == (None, None, None)
    assert (run.name, run.present) == ("demo", ("original", "plan", "compressed"))
    assert run.documents == ("original", "plan")
    assert (run.timings, run.notes) == ({"fit": 1.5}, ("one", "two"))


def test_it_says_why_something_is_lacking(folder: Path) -> None:
    run = read_run_folder(folder)
    assert run.refusals == {"plan": "no plan meets the limits"}
    assert run.lacks("plan", "plan") == ""
    lack = "No curves: the stage recover has left no product. The run ended in search, for the reason at the top."
    assert run.lacks("recovered", "curves") == lack


@pytest.mark.parametrize("file", ["plan/plan.json", "original/curves.json", "timings.json"])
def test_a_damaged_file_is_named(folder: Path, file: str) -> None:
    (folder / file).write_text('"x"')
    with pytest.raises(InputError, match=rf"{file}: damaged, it is not what a run writes"):
        read_run_folder(folder)


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "plan" / "plan.json").rename(tmp_path / "elsewhere.json")
    (folder / "plan" / "plan.json").symlink_to(tmp_path / "elsewhere.json")
    assert read_run_folder(folder).plan is None
