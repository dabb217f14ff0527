"""`import paredown`: cheap, complete, and the same as the command line, with objects in the place of text."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paredown
import paredown.plugins
from paredown.pipeline.public.page import DOORS, python_page

ROOT = Path(__file__).parents[3]
LIMITS = "size: 0.6x, latency_p50: 0.5x, accuracy_drop: 100"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("project")
    (root / "net.py").write_text(tools.net_source)
    (root / "exact.py").write_text(tools.runtime_source)
    images, labels = tools.coloured_shapes(192, 24)
    np.savez(root / "images.npz", images=images, labels=labels)
    text = tools.recipe_text(LIMITS)
    (root / "demo.yaml").write_text(text)
    (root / "tight.yaml").write_text(text.replace("size: 0.6x", "size: 1 KiB"))
    (root / "front.yaml").write_text("front: [0.6x, 0.5x]\n" + text)
    return root


@pytest.fixture(scope="module")
def calls() -> list[tuple[str, float, float]]:
    return []


@pytest.fixture(scope="module")
def result(project: Path, calls: list[tuple[str, float, float]]) -> "paredown.RunResult":
    return paredown.run(
        project / "demo.yaml", project / "runs", lambda text, done, total: calls.append((text, done, total))
    )


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "torch", "numpy", "onnx", "onnxruntime", "pydantic"
    code = f"import sys, paredown, paredown.plugins; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("door", DOORS)
def test_everything_that_it_offers_is_there(door: str) -> None:
    module = importlib.import_module(door)
    assert set(module.__all__) == set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname or alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(module.__all__)


def test_what_is_not_offered_is_refused_with_what_is() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute .runn.; allowed: .*run"):
        _ = paredown.runn  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_package() -> None:
    assert paredown.__version__ == version("paredown")
    done = subprocess.run([sys.executable, "-m", "paredown", "--version"], capture_output=True, text=True, check=True)
    assert paredown.__version__ in done.stdout


def test_the_committed_page_is_current() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    assert page == python_page(), "run: python -m paredown.pipeline.reference"
    assert all(f"### `{name}`" in page for name in ("run", "plan", "check", "gate", "show", "load_recipe", "RunResult"))


def test_a_run_is_one_object(project: Path, result: "paredown.RunResult") -> None:
    assert result.holds and not result.refusal
    assert (result.name, result.folder) == ("demo", project / "runs" / "demo")
    assert result.artifact == result.folder / "artifact" / "model.onnx" and result.artifact.is_file()
    assert result.report and result.report.read_text().startswith("<!doctype html>")
    assert result.lock == project / "demo.lock" and result.lock.is_file()
    assert result.model_card and result.model_card.is_file()
    checks = {check.name: check for check in result.checks}
    assert checks["size"].holds and checks["size"].after < checks["size"].limit < checks["size"].before
    assert checks["latency p95"].holds is None
    assert result.plan and result.plan.predicted and result.plan.choice
    assert set(result.seconds) >= {"fit", "search", "verify"}


def test_progress_tells_stages_and_shares(result: "paredown.RunResult", calls: list[tuple[str, float, float]]) -> None:
    assert {text.partition(":")[0] for text, _, _ in calls} >= {"1/9 fit", "5/9 search", "9/9 verify"}
    assert all(0 <= done <= total for _, done, total in calls)


def test_a_lock_is_followed_and_confirmed(project: Path, result: "paredown.RunResult") -> None:
    again = paredown.run(project / "demo.yaml", project / "again", locked=True)
    assert again.holds and "the artifact is that of" in again.confirmed
    assert again.artifact and result.artifact and again.artifact.read_bytes() == result.artifact.read_bytes()
    recipe = paredown.load_recipe(project / "demo.yaml")
    with pytest.raises(paredown.InputError, match="give the file's path"):
        paredown.run(recipe, project / "again", locked=True)


def test_a_loaded_recipe_runs_and_leaves_no_lock(project: Path, result: "paredown.RunResult") -> None:
    (project / "demo.lock").rename(project / "kept.lock")
    ended = paredown.run(paredown.load_recipe(project / "demo.yaml"), project / "runs")
    assert ended.holds and ended.lock is None and not (project / "demo.lock").exists()
    (project / "kept.lock").rename(project / "demo.lock")


def test_a_plan_alone(project: Path, result: "paredown.RunResult") -> None:
    found = paredown.plan(project / "demo.yaml", project / "runs")
    assert found.holds and result.plan
    assert found.plan.choice == result.plan.choice


def test_a_limit_that_no_plan_holds_is_a_result(project: Path, result: "paredown.RunResult") -> None:
    found = paredown.plan(project / "tight.yaml", project / "runs")
    assert not found.holds and "no plan meets the limits" in found.refusal and found.plan.feasible is False
    ended = paredown.run(project / "tight.yaml", project / "runs")
    assert not ended.holds and ended.refusal == found.refusal and ended.artifact is None and ended.report
    assert {check.name: check.holds for check in ended.checks}["size (nearest plan, predicted)"] is False


def test_a_check_has_lines_and_warnings(project: Path) -> None:
    found = paredown.check(project / "demo.yaml", project / "runs")
    assert any(line.startswith("stages: fit -> baseline") for line in found.lines) and found.warnings == ()


def test_a_gate_is_an_outcome(project: Path, result: "paredown.RunResult") -> None:
    assert result.artifact
    baseline = result.folder / "baseline" / "model.onnx"
    outcome = paredown.gate(result.artifact, baseline=baseline, static=True)
    assert outcome.verdict == "pass" and {check.name for check in outcome.checks} >= {"bytes"}
    assert paredown.gate(baseline, baseline=result.artifact, static=True).verdict == "fail"


def test_a_model_is_shown_as_an_object(result: "paredown.RunResult") -> None:
    shown = paredown.show(result.folder)
    assert shown.file == result.artifact and shown.embedded and shown.evidence
    assert shown.facts.parameters > 0 and shown.warnings == ()
    assert "made by: paredown" in str(shown) and shown.as_data()["sha256"] == shown.sha256


def test_a_front_is_several_results(project: Path, result: "paredown.RunResult") -> None:
    with pytest.raises(paredown.InputError, match="run_front"):
        paredown.run(project / "front.yaml", project / "runs")
    ended = paredown.run_front(project / "front.yaml", project / "runs")
    assert [one.name for one in ended] == ["front-0.6x", "front-0.5x"] and all(one.holds for one in ended)
    assert [one.lock for one in ended] == [project / "front-0.6x.lock", project / "front-0.5x.lock"]
    again = paredown.run_front(project / "front.yaml", project / "again", locked=True)
    assert [one.artifact and one.artifact.read_bytes() for one in again] == [
        one.artifact and one.artifact.read_bytes() for one in ended
    ]
    with pytest.raises(paredown.InputError, match="has no front"):
        paredown.run_front(project / "demo.yaml", project / "runs")


def test_faults_are_lines_for_people(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("modle: {}\n")
    with pytest.raises(paredown.InputError, match=r"bad.yaml:1: modle is not known; did you mean 'model'"):
        paredown.run(tmp_path / "bad.yaml")


def test_a_gate_measures_for_a_time_that_makes_sense(result: "paredown.RunResult") -> None:
    for seconds in (0, -1, 3601):
        with pytest.raises(paredown.InputError, match=f"seconds is {seconds}; allowed: above 0, at most 3600"):
            paredown.gate(result.folder / "baseline" / "model.onnx", static=True, seconds=seconds)


def test_a_plan_alone_is_made_in_one_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(paredown.InputError, match="under torchrun use paredown"):
        paredown.plan(project / "demo.yaml", project / "runs")


def test_a_recipe_means_the_same_files_from_every_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    recipe = paredown.load_recipe("demo.yaml")
    monkeypatch.chdir("/")
    assert paredown.check(recipe, project / "runs").lines
