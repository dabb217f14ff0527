"""Which files count as the source of a file."""

from pathlib import Path

import pytest

from paredown.models.files import digest_file
from paredown.models.loading.source_files import digest_sources, source_files


def _names(root: Path, name: str = "net.py") -> set[str]:
    return {str(path.relative_to(root)) for path in source_files(root / name, (root,))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "net.py": "import os, torch\nfrom layers import Base\ndef net():\n    from pack.inner import deep\n",
        "layers.py": "from pack import width as w\n",
        "pack/__init__.py": "from .size import *\n",
        "pack/size.py": "import json\nwidth = 3\n",
        "pack/inner/deep.py": "from ..size import width\nimport net\n",
        "other.py": "",
        "json.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_imports_are_followed_also_inside_of_functions(root: Path) -> None:
    assert _names(root) == {"net.py", "layers.py", "pack/__init__.py", "pack/size.py", "pack/inner/deep.py"}
    assert _names(root, "other.py") == {"other.py"}


def test_names_that_only_running_tells_take_in_everything_below(root: Path) -> None:
    (root / "other.py").write_text("import importlib\nimportlib.import_module('pack.' + 'size')")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "no.py").write_text("")
    assert _names(root, "other.py") == {*_names(root), "other.py", "json.py"}
    (root / "pack" / "inner" / "deep.py").write_text("import importlib")
    assert "json.py" in _names(root)  # the folder of the recipe, where such an import may look too


def test_modules_of_the_environment_count_and_libraries_do_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "path" / "mine").mkdir(parents=True)
    (root / "path" / "mine" / "__init__.py").write_text("from . import more")
    (root / "path" / "mine" / "more.py").write_text("import numpy, timm, paredown.plugins")
    (root / "other.py").write_text("import mine")
    assert _names(root, "other.py") == {"other.py"}
    monkeypatch.syspath_prepend(root / "path")
    assert _names(root, "other.py") == {"other.py", "path/mine/__init__.py", "path/mine/more.py"}


def test_one_file_s_digest_is_its_own_and_several_files_have_one_that_follows_each(root: Path, tmp_path: Path) -> None:
    assert digest_sources(root / "other.py", (root,)) == digest_file(root / "other.py")
    seen = {digest_sources(root / "net.py", (root,))}
    for name in ("layers.py", "pack/size.py", "pack/inner/deep.py"):
        (root / name).write_text((root / name).read_text() + "\n")
        seen.add(digest_sources(root / "net.py", (root,)))
    (root / "json.py").write_text("changed")
    assert digest_sources(root / "net.py", (root,)) in seen
    assert len(seen) == 4


def test_files_that_are_no_python_or_not_there_are_left_to_running_them(root: Path) -> None:
    (root / "other.py").write_text("def (")
    assert _names(root, "other.py") == {"other.py"}
    (root / "other.py").write_text("from ......... import up\nimport missing.deeper\nfrom . import nothing")
    assert _names(root, "other.py") == {"other.py"}
