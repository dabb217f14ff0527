"""The wheel holds every source and data file, and puts nothing but `paredown` at the top level."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("models", "pipeline", "stages")
TAKEN = (*FOLDERS, "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of a wheel that is built from a copy: building leaves traces in the source tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in TAKEN:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
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
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_every_source_is_in_the_wheel(members: list[str]) -> None:
    sources = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 50
    assert {f"paredown/{file.relative_to(ROOT)}" for file in sources} == {m for m in members if m.endswith(".py")}


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
