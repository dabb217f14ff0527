"""Modules as people hold them, loaded through a recipe's source."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.errors import InputError
from paredown.models.loading.model import LoadedModel, open_model
from paredown.models.loading.plain_modules import make_permanent
from paredown.models.loading.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit|weight_norm).*is deprecated")
HEAD = """
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

class Net(nn.Module):
    def __init__(self, classes=4, channels=3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def _opened(root: Path, body: str, classes: int = 4, head: Any = "keep", **fields: Any) -> LoadedModel:
    (root / "net.py").write_text(f"{HEAD}\n{body}")
    return open_model(ModelSpec(source="net.py:make", **fields), classes, root, head=head, side=16)


def _refused(root: Path, body: str, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        _opened(root, body, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "wrapped",
    [
        "nn.DataParallel(net)",
        "torch.compile(net)",
        "torch.optim.swa_utils.AveragedModel(nn.DataParallel(net))",
        "nn.DataParallel(torch.compile(net))",
        "net.half()",
        "net.double()",
        "net.bfloat16()",
        "net.train()",
    ],
)
def test_wrappers_are_taken_off_and_weights_are_float32(root: Path, wrapped: str) -> None:
    module = _opened(root, f"def make():\n    net = Net()\n    return {wrapped}").module
    assert type(module).__name__ == "Net"
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
    assert not any(inner.training for inner in module.modules())
    assert module(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


def test_wrappers_inside_are_taken_off_too(root: Path) -> None:
    module = _opened(
        root, "def make():\n    net = Net()\n    net.conv = torch.compile(net.conv)\n    return net"
    ).module
    assert type(module.get_submodule("conv")) is nn.Conv2d


def test_a_module_that_was_compiled_in_place_is_plain_again(root: Path) -> None:
    module = _opened(root, "def make():\n    net = Net()\n    net.compile()\n    return net").module
    assert module._compiled_call_impl is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("weight_norm(net.conv)", "weight norm"),
        ("spectral_norm(net.conv)", "spectral norm"),
        ("parametrizations.weight_norm(net.fc)", "WeightNorm"),
        ("parametrizations.spectral_norm(net.fc)", "SpectralNorm"),
        ("prune.l1_unstructured(net.conv, 'weight', 0.5)", "pruning masks"),
        (
            "prune.ln_structured(net.conv, 'weight', 0.5, 2, 0); prune.identity(net.conv, 'weight')",
            "prun",
        ),
    ],
)
def test_weights_that_are_computed_become_plain_and_the_answers_stay(root: Path, change: str, told: str) -> None:
    body = f"def make():\n    torch.manual_seed(1)\n    net = Net()\n    {change}\n    return net.eval()"
    loaded = _opened(root, body)
    names = {
        "conv.weight",
        "conv.bias",
        "fc.weight",
        "fc.bias",
        *(n for n in loaded.module.state_dict() if "norm." in n),
    }
    assert set(loaded.module.state_dict()) == names
    assert told in " ".join(loaded.notes)
    space: dict[str, Any] = {}
    exec(f"{HEAD}\n{body}", space)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.module(images), space["make"]()(images))


@pytest.mark.parametrize(
    "change",
    [
        "weight_norm(net.conv)",
        "spectral_norm(net.conv)",
        "parametrizations.weight_norm(net.conv)",
        "parametrizations.spectral_norm(net.conv)",
        "prune.l1_unstructured(net.conv, 'weight', 0.5)",
    ],
)
def test_checkpoints_fit_whether_model_or_file_hold_plain_weights_or_their_parts(root: Path, change: str) -> None:
    made = f"def made():\n    torch.manual_seed(1)\n    net = Net()\n    {change}\n    return net.eval()"
    space: dict[str, Any] = {}
    exec(f"{HEAD}\n{made}", space)
    net = space["made"]()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = net(images).detach()
    torch.save(net.state_dict(), root / "parts.pth")
    make_permanent(net)
    torch.save(net.state_dict(), root / "plain.pth")
    in_parts = f"def make():\n    net = Net()\n    {change}\n    return net"
    for body in ("def make(): return Net()", in_parts):
        for file in ("parts.pth", "plain.pth"):
            loaded = _opened(root, body, weights=file)
            torch.testing.assert_close(loaded.module(images), expected)


def test_a_train_that_returns_nothing_or_does_nothing_is_made_good(root: Path) -> None:
    for body in ("super().train(mode)", "pass"):
        text = f"class Own(Net):\n    def train(self, mode=True):\n        {body}\n\ndef make(): return Own()"
        module = _opened(root, text).module
        assert module.eval() is module and module.train() is module
        assert type(module).__name__ == "Own"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "def make():\n    net = Net()\n    net.train = True\n    return net",
            "it (Net) has an attribute 'train' (True)",
        ),
        ("def make():\n    return torch.jit.trace(Net().eval(), torch.zeros(1, 3, 8, 8))", "is TorchScript"),
        ("def make(): return Net(channels=1)", "images have 3 channels here"),
        (
            "class Flat(Net):\n    def forward(self, x): return self.fc(x)\n\ndef make(): return Flat()",
            "net.py:",
        ),
        ("def make(): return Net", "returned the class Net and no instance of it"),
        ("def make(): return Net(), 3", "returned tuple of Net, int, not a torch.nn.Module"),
        ("def make(): Net()", "returned None"),
        ("def make(classes, *, width): return Net()", "demands width; a factory is given the number of classes"),
        ("import sys\ndef make(): sys.exit(3)", "net.py:16: the code ends the program with exit code 3"),
        ("def make(): return Net().nothing", "has no attribute 'nothing' ("),
        (
            "class Mine(Net):\n    def train(self, data):\n        for x in data: pass\n\ndef make(): return Mine()",
            "net.py:17",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(root: Path, body: str, told: str) -> None:
    assert told in _refused(root, body)


def test_a_wrong_image_size_is_named(root: Path) -> None:
    body = "class Flat(Net):\n    def forward(self, x): return nn.functional.linear(self.conv(x).flatten(1), w)\n\n"
    text = _refused(root, f"{body}w = torch.zeros(4, 8 * 32 * 32)\ndef make(): return Flat()")
    assert "cannot be run on an image of (3, 16, 16)" in text and "net.py:16)" in text
    assert "data.image_size must be one that the network was made for" in text


def test_lazy_layers_get_their_shapes(root: Path) -> None:
    body = "def make(classes):\n    net = Net()\n    net.fc = nn.LazyLinear(classes)\n    return net"
    module = _opened(root, body).module
    assert module.get_submodule("fc").get_parameter("weight").shape == (4, 8)


def test_what_a_model_keeps_of_its_last_call_does_not_stay_in_it(root: Path) -> None:
    forward = "self.kept = self.conv(x)\n        return super().forward(x)"
    body = f"class Keeps(Net):\n    def forward(self, x):\n        {forward}"
    module = _opened(root, f"{body}\n\ndef make(): return Keeps()").module
    assert "kept" not in vars(module)
    copy.deepcopy(module)


def test_a_model_that_cannot_be_copied_is_refused_with_the_attribute(root: Path) -> None:
    body = "def make():\n    import threading\n    net = Net()\n    net.conv.lock = threading.Lock()\n    return net"
    assert "cannot be copied (attribute conv.lock): TypeError: cannot pickle" in _refused(root, body)


def test_tied_weights_that_a_file_holds_once_fill_both(root: Path) -> None:
    tie = "net.more = nn.Linear(8, 8)\n    net.more.weight = net.fc.weight"
    body = f"def make():\n    net = Net(8)\n    {tie}\n    return net"
    state = _opened(root, body, classes=8).module.state_dict()
    torch.save({key: value + 1 for key, value in state.items() if key != "more.weight"}, root / "once.pth")
    loaded = _opened(root, body, classes=8, weights="once.pth").module.state_dict()
    assert torch.equal(loaded["more.weight"], state["fc.weight"] + 1)


def test_tied_weights_are_told_and_become_separate(root: Path) -> None:
    tie = "net.more = nn.Linear(8, 8)\n    net.more.weight = net.fc.weight"
    body = f"def make():\n    net = Net(8)\n    {tie}\n    return net"
    loaded = _opened(root, body, classes=8)
    assert "more.weight and fc.weight shared their values; each has its own from here on" in loaded.notes[0]
    first, second = (loaded.module.get_submodule(name).get_parameter("weight") for name in ("more", "fc"))
    assert first is not second and torch.equal(first, second)


def test_a_module_that_is_there_already_is_copied_and_the_same_in_every_process(root: Path) -> None:
    body = "import numpy as np\nnet = Net()\nnet.fc.bias.data.fill_(np.random.rand())\nmake = net"
    first = _opened(root, body).module
    with torch.no_grad():
        first.get_submodule("fc").get_parameter("bias").fill_(7)
    second = _opened(root, body).module.get_submodule("fc").get_parameter("bias")
    (root / "again").mkdir()
    third = _opened(root / "again", body).module.get_submodule("fc").get_parameter("bias")
    assert torch.equal(second, third) and not torch.any(second == 7)


def test_a_module_that_is_held_or_called_twice_becomes_two(root: Path) -> None:
    held = "def make():\n    net = Net()\n    net.other = net.stage = nn.Sequential(nn.Conv2d(8, 8, 1))\n    return net"
    loaded = _opened(root, held)
    assert "stage and other shared their values" in loaded.notes[0]
    assert loaded.module.get_submodule("other.0") is not loaded.module.get_submodule("stage.0")
    assert not _opened(root, "def make():\n    net = Net()\n    net.a = net.b = nn.ReLU()\n    return net").notes
