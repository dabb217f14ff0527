"""The digest of a built model: which files of the user's count in it."""

from pathlib import Path

import pytest

from paredown.models.loading.built_model import digest_built_model, user_files
from paredown.models.loading.model import load_model
from paredown.models.loading.spec import ModelSpec

NET = """
import importlib
from functools import partial
import torch
from torch import nn

ops = importlib.import_module("ops" + "_named")

def doubled(function):
    def inner(x): return function(x) * 2
    return inner

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.held = {"a": [partial(importlib.import_module("ops" + "_held").op)]}
        self.wrapped = doubled(importlib.import_module("ops" + "_wrapped").op)

    def forward(self, x): return self.wrapped(self.held["a"][0](ops.op(self.layer(x.mean((2, 3))))))

def make(): return Net()
"""
NAMES = ("ops_named", "ops_held", "ops_wrapped", "ops_deeper")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "path").mkdir()
    (tmp_path / "here" / "net.py").write_text(NET)
    for name in NAMES:
        (tmp_path / "path" / f"{name}.py").write_text("def op(x): return x * 3")
    deeper = "import importlib\ndeeper = importlib.import_module('ops' + '_deeper')\ndef op(x): return deeper.op(x)"
    (tmp_path / "path" / "ops_named.py").write_text(deeper)
    monkeypatch.syspath_prepend(tmp_path / "path")
    return tmp_path


def _digest(root: Path) -> str:
    return digest_built_model(load_model(ModelSpec(source="net.py:make"), 2, root / "here", head="keep", side=4))


@pytest.mark.parametrize("name", NAMES)
def test_functions_count_however_they_were_imported(root: Path, name: str) -> None:
    before = _digest(root)
    assert _digest(root) == before
    file = root / "path" / f"{name}.py"
    file.write_text(file.read_text() + "\nmore = 1")
    assert _digest(root) != before


def test_files_of_libraries_and_what_others_imported_from_a_package_do_not_count(root: Path) -> None:
    (root / "here" / "whole").mkdir()
    for name in ("__init__", "data", "layers"):
        (root / "here" / "whole" / f"{name}.py").write_text("from torch import nn\nclass Layer(nn.Linear): pass")
    (root / "here" / "data.py").write_text("import whole.data\ndef make(): return whole.data.Layer(2, 2)")
    text = (
        "import whole.layers\ndef make():\n    from torch import nn\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), "
    )
    (root / "here" / "net.py").write_text(text + "nn.Flatten(), whole.layers.Layer(3, 2))")
    load_model(ModelSpec(source="data.py:make"), 2, root / "here", head="keep")
    model = load_model(ModelSpec(source="net.py:make"), 2, root / "here", head="keep", side=4)
    assert {Path(file).name for file in user_files(model)} == {"layers.py"}
