"""The runner: what is made again, what is not, and what is shown."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.models.errors import InputError, LimitError, MachineError, MissingError
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run import keys, product_record, store
from paredown.pipeline.run.product_record import RECORD
from paredown.pipeline.run.runner import fails_if_removed, run_pipeline
from paredown.pipeline.run.store import ProductStore
from paredown.stages.plugins import lookup

Write = Callable[..., Path]
Ran = Callable[[], list[str]]

CHAIN = """
- first.py: {steps: 1}
- second.py
- third.py
"""


@pytest.fixture
def chain(write_stage: Write, write_recipe: Write) -> Path:
    """first -> second -> third; second reads the limits."""
    write_stage("first")
    copy = '(state.out / "value").write_text((state.product("{}") / "value").read_text() + str(self.steps))'
    write_stage("second", copy.format("first"), needs=("first",), reads=("limits",))
    write_stage("third", copy.format("second"), needs=("second",))
    return write_recipe(CHAIN)


def values(runs: Path, name: str = "demo") -> dict[str, str]:
    return {file.parent.name: file.read_text() for file in sorted((runs / name).glob("*/value"))}


def test_runs_in_order_and_shows_products(chain: Path, tmp_path: Path, ran: Ran) -> None:
    runs = tmp_path / "runs"
    state = run_pipeline(load_recipe(chain), runs)
    assert ran() == ["first", "second", "third"]
    assert values(runs) == {"first": "1", "second": "11", "third": "111"}
    assert set(state.products) == {"first", "second", "third"}
    assert (runs / "demo" / "first").is_symlink()
    assert not (runs / "demo" / "first").readlink().is_absolute()
    timings = json.loads((runs / "demo" / "timings.json").read_text())
    assert list(timings) == ["first.py", "second.py", "third.py"]
    assert all(seconds >= 0 for seconds in timings.values())


def test_an_unchanged_second_run_redoes_nothing(chain: Path, tmp_path: Path, ran: Ran) -> None:
    runs = tmp_path / "runs"
    run_pipeline(load_recipe(chain), runs)
    timings = (runs / "demo" / "timings.json").read_text()
    ran()
    run_pipeline(load_recipe(chain), runs)
    assert ran() == []
    assert (runs / "demo" / "timings.json").read_text() == timings


@pytest.mark.parametrize(
    ("old", "new", "redone"),
    [
        ("{steps: 1}", "{steps: 2}", ["first", "second", "third"]),
        ("- third.py", "- third.py: {steps: 5}", ["third"]),
        ("{size: 0.5x}", "{size: 0.4x}", ["second", "third"]),
        ("size: 0.5x", "size: 0.50x", []),
        ("image_size: 32", "image_size: 64", []),
    ],
)
def test_a_change_redoes_only_what_depends_on_it(
    chain: Path, tmp_path: Path, ran: Ran, old: str, new: str, redone: list[str]
) -> None:
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    ran()
    chain.write_text(chain.read_text().replace(old, new))
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    assert ran() == redone


def test_another_runtime_to_compare_with_redoes_only_what_compares(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first", reads=("target",))
    body = '(state.out / "value").write_text(f"{state.compare} {hasattr(state.target, \'compare\')}")'
    write_stage("second", body, needs=("first",), reads=("target", "compare"))
    recipe = write_recipe("- first.py\n- second.py")
    written = recipe.read_text()
    (tmp_path / "other.py").write_text((tmp_path / "runtime.py").read_text())
    run_pipeline(load_recipe(recipe), tmp_path / "runs")
    assert ran() == ["first", "second"]
    recipe.write_text(written.replace("runtime: runtime.py", "runtime: runtime.py, compare: [other.py]"))
    run_pipeline(load_recipe(recipe), tmp_path / "runs")
    assert ran() == ["second"]
    assert values(tmp_path / "runs")["second"] == "('other.py',) False"
    (tmp_path / "other.py").write_text((tmp_path / "runtime.py").read_text() + "# changed\n")
    run_pipeline(load_recipe(recipe), tmp_path / "runs")
    assert ran() == ["second"]


def test_a_runtime_to_compare_with_that_is_missing_is_told_at_once(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first")
    write_stage("second", needs=("first",), reads=("compare",))
    recipe = write_recipe("- first.py\n- second.py")
    recipe.write_text(recipe.read_text().replace("runtime: runtime.py", "runtime: runtime.py, compare: [other.py]"))
    (tmp_path / "other.py").write_text('class R:\n    REQUIRES: dict[str, str] = {"nowhere": "wings"}\n\nPLUGIN = R\n')
    with pytest.raises(MissingError, match=r'pip install "paredown\[wings\]"'):
        run_pipeline(load_recipe(recipe), tmp_path / "runs")
    assert ran() == []
    run_pipeline(load_recipe(recipe), tmp_path / "runs", until="first.py")
    assert ran() == ["first"]


def test_an_engine_that_is_missing_is_told_at_once(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stage("first")
    write_stage("second", needs=("first",), extra='transforms: dict = {"quantize": {"engine": "neural-compressor"}}')
    monkeypatch.setattr(lookup, "is_installed", lambda module: False)
    with pytest.raises(MissingError, match=r'pip install "paredown\[neural-compressor\]"'):
        run_pipeline(load_recipe(write_recipe("- first.py\n- second.py")), tmp_path / "runs")
    assert ran() == []


def test_another_version_of_an_engine_redoes_what_it_calibrated(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stage("first")
    write_stage("second", extra='transforms: dict = {"quantize": {"engine": {"neural-compressor": {}}}}')
    monkeypatch.setattr(lookup, "is_installed", lambda module: True)
    keys._versions()  # remembers the versions of other packages
    recipe = write_recipe("- first.py\n- second.py")
    for version, redone in [("3.10", ["first", "second"]), ("3.10", []), ("3.11", ["second"])]:
        monkeypatch.setattr(keys, "version_of", {"neural_compressor": version}.get)
        run_pipeline(load_recipe(recipe), tmp_path / "runs")
        assert ran() == redone


def test_changed_code_of_a_plugin_redoes_it(chain: Path, tmp_path: Path, ran: Ran) -> None:
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    ran()
    file = tmp_path / "second.py"
    file.write_text(file.read_text() + "# changed\n")
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    assert ran() == ["second", "third"]


def test_the_file_of_a_plugin_that_an_option_names_counts(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first", extra='solver: str = "mine.py"')
    (tmp_path / "mine.py").write_text("A = 1\n")
    recipe = write_recipe("- first.py")
    for text, redone in [("A = 1\n", ["first"]), ("A = 1\n", []), ("A = 2\n", ["first"])]:
        (tmp_path / "mine.py").write_text(text)
        run_pipeline(load_recipe(recipe), tmp_path / "runs")
        assert ran() == redone


def test_two_recipes_share_the_store(chain: Path, tmp_path: Path, ran: Ran) -> None:
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    ran()
    other = chain.with_name("other.yaml")
    other.write_text(chain.read_text())
    run_pipeline(load_recipe(other), tmp_path / "runs")
    assert ran() == []
    assert values(tmp_path / "runs", "other") == values(tmp_path / "runs", "demo")


def test_uses_takes_what_is_there_and_follows_it(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first")
    write_stage("second", '(state.out / "value").write_text(",".join(sorted(state.products)))', uses=("first",))
    runs = tmp_path / "runs"
    run_pipeline(load_recipe(write_recipe("- second.py")), runs)
    assert values(runs) == {"second": ""}
    run_pipeline(load_recipe(write_recipe("- first.py\n- second.py")), runs)
    assert values(runs) == {"first": "1", "second": "first"}
    ran()
    run_pipeline(load_recipe(write_recipe("- first.py: {steps: 3}\n- second.py")), runs)
    assert ran() == ["first", "second"]


def test_a_stage_sees_only_the_products_that_it_declares(
    write_stage: Write, write_recipe: Write, tmp_path: Path
) -> None:
    write_stage("first")
    write_stage("second", 'state.product("first")')
    with pytest.raises(InputError, match="the product 'first' is not there; products so far: none"):
        run_pipeline(load_recipe(write_recipe("- first.py\n- second.py")), tmp_path / "runs")


def test_until_stops_there_and_never_shows_products_of_another_version(chain: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run_pipeline(load_recipe(chain), runs)
    run_pipeline(load_recipe(chain), runs, until="second.py")
    assert set(values(runs)) == {"first", "second", "third"}
    chain.write_text(chain.read_text().replace("{steps: 1}", "{steps: 2}"))
    run_pipeline(load_recipe(chain), runs, until="second.py")
    assert values(runs) == {"first": "2", "second": "21"}
    with pytest.raises(InputError, match=r"no stage 'forth'; its stages: first\.py, second\.py, third\.py"):
        run_pipeline(load_recipe(chain), runs, until="forth")


def test_products_of_stages_that_left_the_recipe_are_not_shown(
    chain: Path, write_recipe: Write, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    run_pipeline(load_recipe(chain), runs)
    (runs / "demo" / "notes.txt").write_text("mine")
    run_pipeline(load_recipe(write_recipe("- first.py: {steps: 1}")), runs)
    assert values(runs) == {"first": "1"}
    assert (runs / "demo" / "notes.txt").exists()


def test_a_limit_that_keeps_the_product_ends_every_run(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    keep = '(state.out / "value").write_text("nearest")\nraise LimitError("no plan is that small", keep=True)'
    write_stage("first", keep)
    write_stage("second")
    recipe = load_recipe(write_recipe("- first.py\n- second.py"))
    for redone in (["first"], []):
        with pytest.raises(LimitError, match="no plan is that small"):
            run_pipeline(recipe, tmp_path / "runs")
        assert ran() == redone
        assert values(tmp_path / "runs") == {"first": "nearest"}


def test_what_a_stage_misses_that_lets_the_run_go_on_is_said_at_its_end(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    keep = '(state.out / "value").write_text("kept")\nraise LimitError("{}", keep=True)'
    write_stage("first", keep.format("far apart"), extra="goes_on: ClassVar[bool] = True")
    write_stage("second", needs=("first",))
    write_stage("third", keep.format("too slow"), needs=("second",))
    write_stage("last")
    recipe = load_recipe(write_recipe("- first.py\n- second.py\n- third.py\n- last.py"))
    for until, said, redone in (
        ("second.py", "^far apart$", ["first", "second"]),
        (None, "^far apart; too slow$", ["third"]),
        (None, "^far apart; too slow$", []),
    ):
        with pytest.raises(LimitError, match=said) as caught:
            run_pipeline(recipe, tmp_path / "runs", until)
        assert caught.value.keep
        assert ran() == redone
    assert values(tmp_path / "runs") == {"first": "kept", "second": "1", "third": "kept"}


def test_a_limit_that_keeps_nothing_is_tried_again(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first", 'raise LimitError("too slow")')
    recipe = load_recipe(write_recipe("- first.py"))
    for _ in range(2):
        with pytest.raises(LimitError, match="too slow"):
            run_pipeline(recipe, tmp_path / "runs")
        assert ran() == ["first"]
    assert values(tmp_path / "runs") == {}


def test_a_failed_stage_keeps_earlier_products_and_its_scratch_files(
    write_stage: Write, write_recipe: Write, tmp_path: Path, ran: Ran
) -> None:
    write_stage("first")
    half = """
        part = state.out / "part"
        if part.exists():
            (state.out / "value").write_text("whole")
        else:
            part.write_text("half")
            raise RuntimeError("cable pulled")
    """
    write_stage("second", half, needs=("first",))
    recipe = load_recipe(write_recipe("- first.py\n- second.py"))
    with pytest.raises(InputError, match="cable pulled"):
        run_pipeline(recipe, tmp_path / "runs")
    assert values(tmp_path / "runs") == {"first": "1"}
    run_pipeline(recipe, tmp_path / "runs")
    assert ran() == ["first", "second", "second"]
    assert values(tmp_path / "runs") == {"first": "1", "second": "whole"}


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record"])
def test_a_damaged_product_is_made_again(
    chain: Path, tmp_path: Path, ran: Ran, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    runs = tmp_path / "runs"
    run_pipeline(load_recipe(chain), runs)
    ran()
    file = runs / "demo" / "second" / (RECORD if damage == "record" else "value")
    match damage:
        case "flip":
            file.write_text("12")
        case "remove":
            file.unlink()
        case _:
            file.write_bytes(file.read_bytes()[:1])
    run_pipeline(load_recipe(chain), runs)
    assert ran() == ["second"]
    assert values(runs) == {"first": "1", "second": "11", "third": "111"}
    assert "warning: " in capsys.readouterr().err


def test_products_of_an_older_version_are_made_again_and_nothing_is_said_of_them(
    chain: Path,
    write_recipe: Write,
    tmp_path: Path,
    ran: Ran,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = tmp_path / "runs"
    with monkeypatch.context() as older:
        for module in (store, product_record):
            older.setattr(module, "RECORD", "MANIFEST.json")
        older.setattr(keys, "code_digest", lambda: "older")
        run_pipeline(load_recipe(chain), runs)
    assert (runs / "demo" / "third" / "MANIFEST.json").is_file()
    ran()
    capsys.readouterr()
    run_pipeline(load_recipe(write_recipe("- first.py: {steps: 1}\n- second.py")), runs)
    assert ran() == ["first", "second"]
    assert values(runs) == {"first": "1", "second": "11"}, "what the recipe no longer has is not shown"
    assert {file.name for file in (runs / "demo" / "second").iterdir()} == {"value", RECORD}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", [RECORD, RECORD.upper()])
def test_a_stage_cannot_write_what_the_store_writes(
    write_stage: Write, write_recipe: Write, tmp_path: Path, name: str
) -> None:
    write_stage("first", f'(state.out / "{name}").write_text("mine")')
    for _ in range(2):
        with pytest.raises(InputError, match=f"{name}: the stage wrote a file of this name"):
            run_pipeline(load_recipe(write_recipe("- first.py")), tmp_path / "runs")


def test_a_run_that_was_killed_behind_the_record_goes_on(
    chain: Path, tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull_the_cable(*_: object) -> None:
        raise RuntimeError("cable pulled")

    with monkeypatch.context() as broken, pytest.raises(InputError, match="cable pulled"):
        broken.setattr(store, "_sync_tree", pull_the_cable)
        run_pipeline(load_recipe(chain), tmp_path / "runs")
    assert list((tmp_path / "runs" / ".store" / "work").glob(f"*/{RECORD}"))
    run_pipeline(load_recipe(chain), tmp_path / "runs")
    assert ran() == ["first", "first", "second", "third"]


def test_a_stage_sees_the_recipe_and_its_folders(write_stage: Write, write_recipe: Write, tmp_path: Path) -> None:
    body = """
        seen = [state.seed, state.data.image_size, str(state.limits.size), state.cache.name, state.root]
        (state.out / "value").write_text("|".join(map(str, seen)))
    """
    write_stage("first", body, reads=("seed", "limits"))
    run_pipeline(load_recipe(write_recipe("- first.py", rest="seed: 7")), tmp_path / "runs")
    assert values(tmp_path / "runs") == {"first": f"7|32|0.5x|.cache|{tmp_path}"}


def test_a_second_run_in_the_folder_is_refused(chain: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with (
        ProductStore(runs / ".store").lock(),
        pytest.raises(MachineError, match=f"another run is going on in {runs}"),
    ):
        run_pipeline(load_recipe(chain), runs)
    run_pipeline(load_recipe(chain), runs)


def test_progress_names_the_stage(chain: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run_pipeline(load_recipe(chain), tmp_path / "runs", progress=lambda text, done, total: lines.append(text))
    run_pipeline(load_recipe(chain), tmp_path / "runs", progress=lambda text, done, total: lines.append(text))
    assert lines == [
        f"{i}/3 {name}.py: {what}"
        for what in ("starts", "unchanged")
        for i, name in enumerate(("first", "second", "third"), 1)
    ]


def test_a_scratch_folder_that_was_replaced_is_no_product(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with fails_if_removed(folder):
        (folder / "first").touch()
    with pytest.raises(MachineError, match="removed"), fails_if_removed(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "second").touch()
    assert not folder.exists()
