"""The verbs of `paredown runtime`: nothing is installed before its terms were shown and accepted."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import MissingError
from paredown.pipeline.cli import cli
from paredown.pipeline.commands import runtime
from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run.keys import ProductKeys
from paredown.stages import plugins
from paredown.stages.runtimes.sidecars import environment
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.sidecars.registry import SIDECARS

Call = Callable[..., tuple[int, str, str]]
Write = Callable[..., Path]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The interpreters that installations were made with: nothing is really installed. This machine can have all."""
    found: list[Path] = []

    def install(sidecar: Sidecar, base: Path) -> Path:
        found.append(base)
        licence = sidecar.folder / "lib" / "python3.11" / "site-packages" / sidecar.licence
        licence.parent.mkdir(parents=True)
        licence.write_text("terms")
        (sidecar.folder / environment.STAMP).write_text(
            f'{{"requirements": {list(sidecar.requirements)}, "packages": []}}'.replace("'", '"')
        )
        return sidecar.folder

    monkeypatch.setenv("PAREDOWN_SIDECARS", str(tmp_path))
    monkeypatch.setattr(Sidecar, "install", install)
    version = ".".join(map(str, sys.version_info[:2]))
    for name, one in SIDECARS.items():
        monkeypatch.setitem(SIDECARS, name, replace(one, pythons=(version,), obstacle=lambda: ""))
    return found


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], made: list[Path]) -> Call:
    """Runs `paredown runtime ...`; gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_guarded(lambda: cli.main(args=["runtime", *arguments], standalone_mode=False))
        return (code, *capsys.readouterr())

    return run


def terminal(monkeypatch: pytest.MonkeyPatch, answer: bool | None) -> None:
    """A person at a terminal who answers, or nobody."""
    monkeypatch.setattr(runtime.sys.stdin, "isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr(runtime.click, "confirm", lambda question, **options: answer)


def test_without_a_terminal_the_licence_must_be_accepted_in_words(
    call: Call, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch, None)
    code, out, err = call("install", "deepsparse")
    assert (code, out, made) == (2, "", [])
    assert err.splitlines()[-1].startswith("error: deepsparse is not installed: ")
    assert "--accept-licence" in err.splitlines()[-1]


def test_who_declines_gets_nothing(call: Call, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, False)
    code, _, err = call("install", "deepsparse")
    assert (code, made) == (2, [])
    assert err.splitlines()[-1] == "error: deepsparse is not installed: its licence was not accepted"


def test_what_it_is_is_shown_before_and_the_licence_after(
    call: Call, made: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal(monkeypatch, True)
    code, out, err = call("install", "deepsparse")
    assert (code, out, made) == (0, f"{tmp_path / 'deepsparse'}\n", [Path(sys.executable)])
    before, after = err.split("installing")
    for words in ("deepsparse==1.8.0", "474 MB", str(tmp_path / "deepsparse"), "evaluation", "not production"):
        assert words in before
    assert "site-packages/deepsparse-1.8.0.dist-info/LICENSE" in after


@pytest.mark.parametrize("name", ["deepsparse", "sparseml"])
def test_accepted_in_words_it_asks_nothing(
    call: Call, made: list[Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    terminal(monkeypatch, None)
    assert call("install", name, "--accept-licence", "--python", sys.executable)[0] == 0
    assert made == [Path(sys.executable)]


def test_the_list_says_what_is_there_and_how_to_get_the_rest(call: Call, tmp_path: Path) -> None:
    call("install", "deepsparse", "--accept-licence")
    code, out, _ = call("list")
    there, lacking = out.splitlines()
    assert code == 0
    assert there.split() == ["deepsparse", str(tmp_path / "deepsparse")]
    assert lacking.endswith("paredown runtime install sparseml")


def test_what_is_removed_is_gone(call: Call, tmp_path: Path) -> None:
    call("install", "deepsparse", "--accept-licence")
    assert call("remove", "deepsparse")[2] == f"removed {tmp_path / 'deepsparse'}\n"
    assert not (tmp_path / "deepsparse").exists()
    assert call("remove", "deepsparse") == (0, "", "deepsparse was not installed\n")


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_an_unknown_name_is_refused(call: Call, verb: str) -> None:
    code, _, err = call(verb, "deep")
    assert (code, err) == (2, "error: there is no runtime 'deep' to install; allowed: deepsparse, sparseml\n")


def test_an_unfit_interpreter_is_refused_before_the_question(call: Call, tmp_path: Path) -> None:
    code, _, err = call("install", "deepsparse", "--python", str(tmp_path / "none"))
    assert code == 2 and len(err.splitlines()) == 1 and "does not run as a Python" in err


def test_what_is_in_a_sidecar_is_part_of_the_key(call: Call, write_recipe: Write, write_stage: Write) -> None:
    write_stage("first")
    keys = ProductKeys(load_recipe(write_recipe("- first.py")))
    before = keys.installed("runtimes", ["deepsparse"])
    call("install", "deepsparse", "--accept-licence")
    after = keys.installed("runtimes", ["deepsparse"])
    assert before == {"deepsparse": None}
    assert after == {"deepsparse": {"requirements": ["deepsparse==1.8.0"], "packages": []}}


def test_everything_else_works_without_it_and_says_what_is_missing(call: Call, made: Any) -> None:
    """`made` gives an empty folder of sidecars."""
    line = "deepsparse needs its own interpreter, which is not installed: paredown runtime install deepsparse"
    assert plugins.missing_requirement("runtimes", "deepsparse") == line
    with pytest.raises(MissingError, match=f"^{line}$"):
        plugins.load_plugin("runtimes", "deepsparse")
    assert plugins.missing_requirement("runtimes", "onnxruntime") is None
    call("install", "deepsparse", "--accept-licence")
    assert plugins.missing_requirement("runtimes", "deepsparse") is None
    assert plugins.load_plugin("runtimes", "deepsparse")().version() == "deepsparse unknown"
