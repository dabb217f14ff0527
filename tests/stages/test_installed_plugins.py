"""Plugins that installed packages bring through entry points, tried with packages that are only folders."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from paredown.models.errors import InputError, MissingError
from paredown.pipeline.commands.list import list_verb
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe
from paredown.pipeline.run.keys import ProductKeys
from paredown.stages import plugins
from paredown.stages.base import Stage, State
from paredown.stages.plugins import installed
from paredown.stages.plugins.installed import installed_digests, plugin_distributions

SOLVER = '''"""Gives up at once."""

from collections.abc import Mapping
from typing import ClassVar

from {package}.shared import WORD
from paredown.stages.solvers.base import Solver


class Idle(Solver):
    REQUIRES: ClassVar[Mapping[str, str]] = {requires}

    word: str = WORD

    def solve(self, problem, avoid=(), distance=0.1):
        raise NotImplementedError


PLUGIN = Idle
'''


class Chooses(Stage):
    gives: ClassVar[str] = "chosen"
    solver: str = "idle"

    def run(self, state: State) -> None: ...


STEP = PipelineStep(name="chooses", stage=Chooses())
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lays a package with a solver into a folder of its own on `sys.path`, as an installer would."""

    def lay(name: str = "idle", package: str = "acme", requires: str = "{}", module: str = "solvers.idle") -> Path:
        place = tmp_path / package
        (place / package / "solvers").mkdir(parents=True)
        for folder in (place / package, place / package / "solvers"):
            (folder / "__init__.py").write_text("raise AssertionError('it was imported')\n" * (requires != "{}"))
        (place / package / "shared.py").write_text('WORD = "idle"\n')
        (place / package / "solvers" / "idle.py").write_text(SOLVER.format(package=package, requires=requires))
        facts = place / f"{package}-1.2.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (facts / "entry_points.txt").write_text(f"[paredown.solvers]\n{name} = {package}.{module}\n")
        monkeypatch.syspath_prepend(str(place))
        return place / package

    yield lay
    for module in [module for module in sys.modules if module.partition(".")[0] in ("acme", "zenith")]:
        del sys.modules[module]


def test_it_is_listed_and_loaded_by_its_name(install: Install) -> None:
    install()
    assert "idle" in plugins.plugin_names("solvers") and "idle" not in plugins.plugin_names("blocks")
    assert plugins.plugin_summary("solvers", "idle") == "Gives up at once."
    assert plugins.make_plugin("solvers", "idle", {}).word == "idle"
    assert not plugins.comes_with_paredown("solvers", "idle")
    assert plugins.refused_plugins("solvers") == []
    with pytest.raises(InputError, match=r"'idel' is not known; did you mean 'idle'\?"):
        plugins.plugin_file("solvers", "idel")


def test_a_hyphen_stands_for_an_underscore(install: Install) -> None:
    install("sits-idle")
    assert plugins.load_plugin("solvers", "sits-idle") is plugins.load_plugin("solvers", "sits_idle")


def test_listing_imports_nothing_of_it(install: Install) -> None:
    place = install(requires='{"no_such_module": "wings"}')
    line = 'idle needs the module no_such_module, which is not installed: pip install "acme[wings]"'
    assert plugins.missing_requirement("solvers", "idle") == line
    with pytest.raises(MissingError) as caught:
        plugins.load_plugin("solvers", "idle")
    assert str(caught.value) == line
    script = "import sys; from paredown.stages import plugins; "
    script += "plugins.plugin_names('solvers'); sys.exit('acme' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(place.parent)!r}); {script}"], check=True
    )


def test_our_own_wins_and_says_so(
    install: Install, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    install("milp")
    line = "the solver milp is paredown's own; acme.solvers.idle of acme 1.2 has the same name and is not used"
    with caplog.at_level(logging.WARNING, logger="paredown"):
        assert plugins.load_plugin("solvers", "milp").__module__ == "paredown.stages.solvers.milp"
    assert caplog.messages == [line]
    assert plugins.refused_plugins("solvers") == [line]
    list_verb.main([], standalone_mode=False)
    assert f"  {line}\n" in capsys.readouterr().out


def test_of_two_packages_with_one_name_neither_is_taken(install: Install) -> None:
    install(package="acme")
    install(package="zenith")
    line = "the solver idle is brought by acme.solvers.idle of acme 1.2 and by zenith.solvers.idle of zenith 1.2"
    assert plugins.refused_plugins("solvers") == [f"{line}: uninstall one"]
    assert "idle" not in plugins.plugin_names("solvers")
    with pytest.raises(InputError, match=f"^{line}: uninstall one$"):
        plugins.load_plugin("solvers", "idle")


def test_what_is_no_plugin_is_refused(install: Install) -> None:
    place = install()
    (place / "solvers" / "idle.py").write_text("class Idle: ...\n")
    line = f"{place / 'solvers' / 'idle.py'} is no plugin: it must end with 'PLUGIN = TheClass'"
    assert plugins.refused_plugins("solvers") == [line]
    with pytest.raises(InputError, match="is no plugin"):
        plugins.load_plugin("solvers", "idle")


def test_a_module_that_is_not_there_is_refused(install: Install) -> None:
    install(module="solvers.gone")
    line = "the solver idle cannot be used: acme.solvers.gone of acme 1.2 has no such file"
    assert plugins.refused_plugins("solvers") == [line]


def test_a_package_that_breaks_is_one_line(install: Install) -> None:
    (install() / "shared.py").write_text("raise RuntimeError('broken')\n")
    with pytest.raises(
        InputError, match=r"^acme\.solvers\.idle of acme 1\.2 cannot be imported: RuntimeError: broken$"
    ):
        plugins.load_plugin("solvers", "idle")


def test_its_sources_decide_products(install: Install) -> None:
    place = install()
    before = installed_digests(["idle", "milp"])
    assert list(before) == ["acme.solvers.idle"] and installed_digests(["milp"]) == {}
    assert plugin_distributions(["idle"]) == {"acme": "1.2"}
    key = ProductKeys(Recipe.model_construct(root=place)).key_of(STEP, {})
    (place / "shared.py").write_text('WORD = "busy"\n')
    assert installed_digests(["idle"]) == before, "what a process has imported stays as it is"
    installed.package_digest.cache_clear()
    assert installed_digests(["idle"]) != before
    assert ProductKeys(Recipe.model_construct(root=place)).key_of(STEP, {}) != key
