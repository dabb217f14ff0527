"""The wheel holds every source and data file, and puts nothing but `paredown` at the top level."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("models", "pipeline", "stages")
DOOR = ROOT / "typings" / "paredown"
"""The root of the import package: its own modules, and links to the folders."""
TAKEN = (*FOLDERS, "typings", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves traces in the source tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in TAKEN:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(target),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def members(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def test_every_source_is_in_the_wheel(members: list[str]) -> None:
    sources = [file.relative_to(ROOT) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    door = [file.relative_to(DOOR) for file in DOOR.glob("*.py")]
    assert len(sources) > 50 and {Path("__init__.py"), Path("__main__.py"), Path("plugins.py")} <= set(door)
    assert {f"paredown/{file}" for file in (*sources, *door)} == {m for m in members if m.endswith(".py")}


def test_what_is_installed_from_it_is_one_package(wheel: Path, tmp_path: Path) -> None:
    """Away from the sources, without the links and finders of an installation in place."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    code = (
        "import paredown, paredown.plugins, paredown.stages.solvers.problem as p; print(paredown.__file__, p.__file__)"
    )
    code += "; print(callable(paredown.run), paredown.plugins.Problem is p.Problem)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True)
    lines = done.stdout.decode().splitlines()
    assert lines and all(file.startswith(str(tmp_path)) for file in lines[0].split()), done.stderr.decode()
    assert lines[1] == "True True"


@pytest.mark.parametrize("name", ["report/report.html", "report/model-card.md", "recipe.schema.json", "py.typed"])
def test_every_data_file_is_in_the_wheel(members: list[str], name: str) -> None:
    assert f"paredown/pipeline/{name}" in members


def test_every_package_is_typed(members: list[str]) -> None:
    assert {f"paredown/{folder}/py.typed" for folder in FOLDERS} <= set(members)


def test_nothing_leaks_to_the_top_level(members: list[str]) -> None:
    tops = {member.partition("/")[0] for member in members}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"paredown"}


def test_the_command_is_installed_with_it(members: list[str]) -> None:
    (entry,) = (member for member in members if member.endswith("entry_points.txt"))
    assert entry
