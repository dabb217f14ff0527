"""Discovery: a file is a plugin, and listing imports nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from paredown.models.errors import InputError, MissingError
from paredown.stages import plugins
from paredown.stages.base import Stage

PLUGIN = '''"""Does nothing, well."""
from typing import ClassVar
from paredown.stages.solvers.base import Solver
{top}

class Mine(Solver):
    REQUIRES: ClassVar[dict[str, str]] = {requires}

    def solve(self, problem, avoid=(), distance=0.1):
        raise NotImplementedError


PLUGIN = Mine
'''


def plugin(folder: Path, requires: str = "{}", top: str = "") -> str:
    (folder / "mine.py").write_text(PLUGIN.format(requires=requires, top=top))
    return "mine.py"


def test_names_are_files_that_set_plugin() -> None:
    assert {"milp", "random"} <= set(plugins.plugin_names("solvers"))
    assert "onnxruntime" in plugins.plugin_names("runtimes")
    for kind in plugins.KINDS:
        listed = plugins.plugin_names(kind)
        assert listed == sorted(listed)
        assert not {"base", "discovery", "problem", "__init__"} & set(listed)


def test_listing_imports_nothing_heavy() -> None:
    script = """
import sys
from paredown.stages import plugins as discovery
for kind in discovery.KINDS:
    for name in discovery.plugin_names(kind):
        discovery.missing_requirement(kind, name), discovery.plugin_summary(kind, name)
sys.exit(any(name in sys.modules for name in ("torch", "onnxruntime", "scipy", "onnx")))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_load_gives_the_class() -> None:
    assert plugins.load_plugin("solvers", "milp").__module__ == "paredown.stages.solvers.milp"


def test_a_hyphen_stands_for_an_underscore() -> None:
    """Packages have the one in their names, modules the other."""
    assert plugins.load_plugin("engines", "neural_compressor") is plugins.load_plugin("engines", "neural-compressor")
    assert plugins.plugin_file("engines", "neural-compressor").name == "neural_compressor.py"


def test_an_unknown_name_is_told_with_what_is_near_and_allowed() -> None:
    with pytest.raises(InputError, match=r"'mlip' is not known; did you mean 'milp'\? allowed: .*random, .*file\.py"):
        plugins.load_plugin("solvers", "mlip")


@pytest.mark.parametrize("name", ["../base", "base", "__init__", "solvers/milp", ""])
def test_what_is_no_plugin_cannot_be_loaded(name: str) -> None:
    with pytest.raises(InputError, match="is not known"):
        plugins.load_plugin("solvers", name)


def test_a_file_is_loaded_once_per_content(tmp_path: Path) -> None:
    first = plugins.load_plugin("solvers", plugin(tmp_path), tmp_path)
    assert first.__name__ == "Mine"
    assert plugins.load_plugin("solvers", "mine.py", tmp_path) is first
    assert plugins.load_plugin("solvers", str(tmp_path / "mine.py")) is first
    plugin(tmp_path, top="A = 1")
    assert plugins.load_plugin("solvers", "mine.py", tmp_path) is not first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.py"], "no byte code beside it"


def test_what_is_missing_is_told_without_importing(tmp_path: Path) -> None:
    plugin(tmp_path, requires='{"json": "core", "no_such_module.part": "wings"}', top="import no_such_module")
    line = 'mine.py needs the module no_such_module.part, which is not installed: pip install "paredown[wings]"'
    assert plugins.missing_requirement("solvers", "mine.py", tmp_path) == line
    with pytest.raises(MissingError) as caught:
        plugins.load_plugin("solvers", "mine.py", tmp_path)
    assert str(caught.value) == line
    plugin(tmp_path, requires='{"json": "core"}')
    assert plugins.missing_requirement("solvers", "mine.py", tmp_path) is None


def test_the_summary_is_the_file_s_first_line(tmp_path: Path) -> None:
    assert plugins.plugin_summary("solvers", plugin(tmp_path), tmp_path) == "Does nothing, well."


def test_choices() -> None:
    assert plugins.allowed_choices("sise", ["size", "time"]) == "did you mean 'size'? allowed: size, time"
    assert plugins.allowed_choices("zzz", ["size"]) == "allowed: size"
    assert plugins.allowed_choices("zzz", []) == "allowed: nothing"


MEMBERS_ONLY = """
from typing import ClassVar
from paredown.models.spec import Spec


class Old(Spec):
    gives: ClassVar[str] = "old"
    steps: int = 2

    def run(self, state):
        return self.steps


PLUGIN = Old
"""


def test_members_without_the_base_class_still_do_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old.py").write_text(MEMBERS_ONLY)
    old = plugins.load_plugin("stages", "old.py", tmp_path)
    assert plugins.load_plugin("stages", "old.py", tmp_path) is old
    assert issubclass(old, Stage) and old.__name__ == "Old"
    assert old(steps=3).model_dump() == {"steps": 3} and old(steps=3).run(None) == 3
    assert (old.needs, old.reads, old.distributed, old().also_needs(tmp_path)) == ((), (), False, ())
    base = "paredown.stages.base.Stage"
    assert caplog.messages == [
        f"the stage old.py: Old must be a {base}; that it only has the members will no longer do"
    ]


@pytest.mark.parametrize(
    ("kind", "before", "after", "line"),
    [
        ("stages", 'gives: ClassVar[str] = "old"', "pass", "the stage old.py: Old lacks gives"),
        ("stages", "def run(", "def go(", "the stage old.py: Old lacks run"),
        ("stages", "Old(Spec)", "Old", "the stage old.py: Old must be a paredown.stages.base.Stage"),
        ("stages", "(self, state)", "(self)", "the stage old.py: Old.run must take self, state"),
        ("stages", "(self, state)", "(self, state, more)", "the stage old.py: Old.run must take self, state"),
        (
            "stages",
            "def run(",
            "def also_needs(self): ...\n\n    def run(",
            "the stage old.py: Old.also_needs must take self, root",
        ),
        ("solvers", "def run(", "def solve(", "the solver old.py: Old.solve must take self, problem, avoid, distance"),
        ("engines", "run", "run", "the engine old.py: Old lacks tune, ranges"),
        ("blocks", "run", "run", "the block old.py: Old lacks build"),
    ],
)
def test_what_keeps_no_contract_is_refused_in_one_line(
    kind: plugins.Kind, before: str, after: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / "old.py").write_text(MEMBERS_ONLY.replace(before, after))
    with pytest.raises(InputError) as caught:
        plugins.load_plugin(kind, "old.py", tmp_path)
    assert str(caught.value) == line
