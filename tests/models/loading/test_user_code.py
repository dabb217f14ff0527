"""Code of the user's in several files."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.models.loading.user_code import load_function, run_file

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return file


def _call(source: str, root: Path) -> Any:
    return load_function(source, root)()


def _refused(source: str, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        _call(source, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_imports_what_is_beside_it_at_its_top_and_when_it_is_called(write: Write, tmp_path: Path) -> None:
    write("proj/parts.py", "def part(): return 'part'")
    write("proj/late.py", "import parts\ndef late(): return parts.part() + ' late'")
    write("proj/net.py", "from parts import part\ndef net():\n    import late\n    return part() + ', ' + late.late()")
    path, modules = list(sys.path), set(sys.modules)
    assert _call("proj/net.py:net", tmp_path) == "part, part late"
    assert sys.path == path
    assert {name for name in set(sys.modules) - modules if not name.startswith("paredown_")} == {"parts", "late"}
    assert sorted(path.name for path in (tmp_path / "proj").iterdir()) == ["late.py", "net.py", "parts.py"]


@pytest.mark.parametrize("package", [True, False])
def test_relative_imports_start_at_the_file_s_folder(write: Write, tmp_path: Path, package: bool) -> None:
    write("my-proj/sub/layers.py", "from .deeper.base import base\ndef layer(): return base + 1")
    write("my-proj/sub/deeper/base.py", "base = 1")
    write("my-proj/sub/net.py", "from .layers import layer\nfrom . import layers\ndef net(): return layer()")
    if package:
        write("my-proj/sub/__init__.py", "from .net import net")
    assert _call("sub/net.py:net", tmp_path / "my-proj") == 2


def test_a_package_s_file_reaches_the_packages_above_it(write: Write, tmp_path: Path) -> None:
    for name in ("nets/__init__.py", "nets/small/__init__.py"):
        write(name, "")
    write("nets/common.py", "one = 1")
    write(
        "nets/small/net.py",
        "from ..common import one\nfrom nets.common import one as same\ndef net(): return one + same",
    )
    assert _call("nets/small/net.py:net", tmp_path) == 2


def test_the_recipe_s_folder_counts_too(write: Write, tmp_path: Path) -> None:
    write("nets/net.py", "from nets.parts import one\nfrom shared import two\ndef net(): return one + two")
    write("nets/parts.py", "one = 1")
    write("shared.py", "two = 2")
    assert _call("nets/net.py:net", tmp_path) == 3


def test_a_module_is_a_source_beside_the_recipe_or_in_the_environment(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("here/nets/small.py", "from nets.parts import one\ndef net(): return one")
    write("here/nets/parts.py", "one = 1")
    write("elsewhere/known/__init__.py", "")
    write("elsewhere/known/inside.py", "from .parts import two\ndef net(): return two")
    write("elsewhere/known/parts.py", "two = 2")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert _call("nets.small:net", tmp_path / "here") == 1
    assert _call("known.inside:net", tmp_path / "here") == 2
    write("elsewhere/known/parts.py", "two = 'changed'")
    assert _call("known.inside:net", tmp_path / "here") == "changed"
    assert "no module 'nets.none' in" in _refused("nets.none:net", tmp_path / "here")
    assert "no module 'none.at.all' in" in _refused("none.at.all:net", tmp_path / "here")
    assert "small.py: no function 'gone' in it" in _refused("nets.small:gone", tmp_path / "here")


def test_projects_with_modules_of_the_same_name_do_not_meet(write: Write, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(f"{name}/layers.py", f"def made(): return '{name}'")
        write(f"{name}/lazy.py", f"def lazy(): return 'lazy {name}'")
        write(
            f"{name}/net.py",
            "from layers import made\ndef net():\n    from lazy import lazy\n    return made(), lazy()",
        )
    first, second = (load_function("net.py:net", tmp_path / name) for name in ("first", "second"))
    for _ in range(2):
        assert first() == ("first", "lazy first")
        assert second() == ("second", "lazy second")


def test_an_import_that_runs_long_after_is_answered_by_its_own_project(write: Write, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(f"{name}/late.py", f"where = '{name}'")
        write(f"{name}/net.py", "class Net:\n    def forward(self):\n        import late\n        return late.where\n")
    first, second = (_call("net.py:Net", tmp_path / name) for name in ("first", "second"))
    assert [first.forward(), second.forward(), first.forward()] == ["first", "second", "first"]


def test_a_module_of_the_user_s_stands_before_an_installed_one_and_leaves_it_to_others(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("environment/usual_name.py", "whose = 'installed'")
    monkeypatch.syspath_prepend(tmp_path / "environment")
    import usual_name  # type: ignore[import-not-found]

    write("proj/usual_name.py", "whose = 'mine'")
    write("proj/json.py", "raise RuntimeError('not this one')")
    write("proj/net.py", "import json\nfrom usual_name import whose\ndef net(): return whose")
    assert _call("net.py:net", tmp_path / "proj") == "mine"
    assert sys.modules["usual_name"] is usual_name
    monkeypatch.delitem(sys.modules, "usual_name")


def test_everything_runs_again_when_an_imported_file_changes(write: Write, tmp_path: Path) -> None:
    write("parts.py", "value = 1")
    write("middle.py", "from parts import value")
    net = write("net.py", "from middle import value\ndef net(): return value")
    assert _call("net.py:net", tmp_path) == 1
    assert run_file(net) is run_file(net)
    write("parts.py", "value = 2")
    assert _call("net.py:net", tmp_path) == 2


@pytest.mark.parametrize("name", ["plain_one", "package_one.inside", "folder_one.inside"])
def test_what_the_process_had_imported_before_is_run_as_it_is_now(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = f"elsewhere/{name.replace('.', '/')}.py"
    write(file, "value = 1")
    if name.startswith("package"):
        write("elsewhere/package_one/__init__.py", "")
    write("here/net.py", f"from {name} import value\ndef net(): return value")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    before = importlib.import_module(name)
    write(file, "value = 'two'\ndef net(): return value")
    assert _call("net.py:net", tmp_path / "here") == "two"
    assert _call(f"{name}:net", tmp_path / "here") == "two"
    assert sys.modules[name] is before and before.value == 1
    for imported in (name, name.partition(".")[0]):
        monkeypatch.delitem(sys.modules, imported, raising=False)


def test_a_relative_import_leaves_a_module_of_that_name_alone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("elsewhere/same_name.py", "value = 'other'")
    write("here/inner/same_name/parts.py", "value = 'mine'")
    write("here/inner/net.py", "import sys\nfrom .same_name.parts import value\nthere = sys.modules['same_name']\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    other = importlib.import_module("same_name")
    module = run_file(tmp_path / "here/inner/net.py")
    assert (vars(module)["value"], vars(module)["there"]) == ("mine", other)
    monkeypatch.delitem(sys.modules, "same_name")


def test_sources_of_imported_code_can_be_looked_up(write: Write, tmp_path: Path) -> None:
    write("parts.py", "class Part:\n    size = 3\n")
    write("net.py", "from parts import Part\ndef net(): return Part")
    assert "size = 3" in inspect.getsource(_call("net.py:net", tmp_path))


def test_what_code_prints_goes_to_stderr(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("net.py", "print('at import')\ndef net(): print('when called')")
    _call("net.py:net", tmp_path)
    assert capsys.readouterr() == ("", "at import\nwhen called\n")


def test_arguments_are_those_of_nobody(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["paredown", "run", "recipe.yaml"])
    parse = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--width', {})\n"
    write("plain.py", parse.format("default=3") + "width = parser.parse_args().width\ndef net(): return width")
    assert _call("plain.py:net", tmp_path) == 3
    write("demands.py", parse.format("required=True") + "def net(): return parser.parse_args()")
    text = _refused("demands.py:net", tmp_path)
    assert "demands.py:4: the code ends the program with exit code 2, saying: " in text and "--width" in text
    assert sys.argv == ["paredown", "run", "recipe.yaml"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import parts\ndef net(): parts.broken()", "parts.py:2"),
        ("import torch\ndef net():\n    a = torch.zeros(2)\n    return a @ torch.zeros(3)", "net.py:4"),
    ],
)
def test_errors_carry_the_innermost_place_of_the_user_s(write: Write, tmp_path: Path, text: str, told: str) -> None:
    from paredown.models.loading.code_places import user_place

    write("parts.py", "def broken():\n    raise KeyError('x')")
    write("net.py", text)
    with pytest.raises((KeyError, RuntimeError)) as caught:
        _call("net.py:net", tmp_path)
    assert user_place(caught.value) == str(tmp_path / told)
    with pytest.raises(ZeroDivisionError) as caught_here:
        run_with(lambda: 1 / 0)
    assert user_place(caught_here.value).startswith(str(Path(__file__)))


def run_with(function: Callable[[], Any]) -> Any:
    return function()


def test_what_code_sets_for_the_whole_process_does_not_outlast_it(write: Write, tmp_path: Path) -> None:
    import torch

    before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()
    write(
        "net.py",
        "import os, torch\ntorch.set_grad_enabled(False)\n"
        "def net():\n    torch.set_default_dtype(torch.float64)\n    os.chdir('/')\n    torch.set_num_threads(7)\n",
    )
    _call("net.py:net", tmp_path)
    assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()) == before
