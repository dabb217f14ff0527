"""Which layer is a network's classifier."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.classifier import classifier_heads, find_classifier, output_count
from paredown.models.loading.model import ModelSpec, load_model


class Attended(nn.Module):
    """A classifier that is defined first, and an attention whose projection is defined last."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(16, classes)
        self.conv = nn.Conv2d(3, 16, 4, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))  # type: ignore[no-any-return]


class Squeezed(nn.Module):
    """A convolution as classifier, pooled after it, and a squeeze layer that is defined after it."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.classifier = nn.Conv2d(8, classes, 1)
        self.squeeze = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
        return nn.functional.adaptive_avg_pool2d(self.classifier(x).relu(), 1).flatten(1)


@pytest.mark.parametrize(("network", "name"), [(Attended(), "head"), (Squeezed(), "classifier")])
def test_it_is_the_layer_whose_outputs_are_the_model_s(network: nn.Module, name: str) -> None:
    assert find_classifier(network.eval(), 16, "it") == name
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    assert find_classifier(network, 16, "it") == name, "frozen networks have one too"


class Summed(Squeezed):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return (self.classifier(x) + self.squeeze(x)).mean((2, 3))


class Functional(Squeezed):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.squeeze(self.stem(x)).mean((2, 3)), torch.ones(8, 8))


@pytest.mark.parametrize("network", [Summed(8), Functional()])
def test_where_several_or_none_are_there_is_none(network: nn.Module) -> None:
    assert find_classifier(network.eval(), 16, "it") is None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision/squeezenet1_1", "classifier.1"),
        ("torchvision/mobilenet_v3_small", "classifier.3"),
        ("torchvision/shufflenet_v2_x0_5", "fc"),
        ("torchvision/vgg11", "classifier.6"),
        ("timm/mobilenetv3_small_050", "classifier"),
        ("timm/ghostnet_100", "classifier"),
        ("timm/convnext_atto", "head.fc"),
    ],
)
def test_that_of_library_models(source: str, name: str, tmp_path: Path) -> None:
    module = load_model(ModelSpec(source=source), 13, tmp_path, head="keep")
    assert find_classifier(module, 64, source) == name
    assert output_count(classifier_heads(module)[name]) == 13


NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.fc = nn.Linear(8, classes)
        self.stem = nn.Conv2d(3, 8, 3)
        self.gate = nn.Linear(8, 8)

    def forward(self, x):
        x = self.stem(x).mean((2, 3))
        return self.fc(x * self.gate(x).sigmoid())

def told(classes): return Net(classes)
def own(): return Net()

class Fixed(Net):
    def forward(self, x): return super().forward(x).view(x.shape[0], 2, 5).flatten(1)

def fixed(): return Fixed()
"""


def test_fit_leaves_a_head_that_fits_and_replaces_the_real_one(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS)
    for name in ("told", "own"):
        module = load_model(ModelSpec(source=f"net.py:{name}"), 4, tmp_path, head="replace", side=16)
        assert module.get_submodule("gate").get_parameter("weight").shape == (8, 8)
        assert module(torch.zeros(1, 3, 16, 16)).shape == (1, 4)
    with pytest.raises(InputError, match="10 classes at 'fc', the data has 4: a `fit` stage adapts it"):
        load_model(ModelSpec(source="net.py:own"), 4, tmp_path, head="keep", side=16)
    with pytest.raises(InputError, match=r"with 4 outputs at 'fc', cannot be run .*net\.py:20"):
        load_model(ModelSpec(source="net.py:fixed"), 4, tmp_path, head="replace", side=16)


def test_weights_keep_all_but_the_real_head(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS)
    net = load_model(ModelSpec(source="net.py:own"), 10, tmp_path, head="keep", side=16)
    torch.save({key: torch.full_like(value, 2) for key, value in net.state_dict().items()}, tmp_path / "w.pth")
    spec = ModelSpec(source="net.py:told", weights="w.pth")
    state = load_model(spec, 4, tmp_path, head="replace", side=16).state_dict()
    assert {key for key, value in state.items() if not torch.all(value == 2)} == {"fc.weight", "fc.bias"}


AUX = """
class Aux(Net):
    def __init__(self, classes=10):
        super().__init__(classes)
        self.aux = nn.Linear(8, classes)

def aux(classes): return Aux(classes)
"""


def test_auxiliary_heads_are_replaced_with_the_classifier(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS + AUX)
    net = load_model(ModelSpec(source="net.py:aux"), 10, tmp_path, head="keep", side=16)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    loaded = load_model(ModelSpec(source="net.py:aux", weights="w.pth"), 4, tmp_path, head="replace", side=16)
    assert loaded.get_submodule("aux").get_parameter("weight").shape == (4, 8)


def test_a_model_that_ends_the_program_is_refused_with_its_place(tmp_path: Path) -> None:
    text = "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        raise SystemExit(3)\n"
    (tmp_path / "net.py").write_text(f"{text}def make(): return Net(3, 2)\n")
    with pytest.raises(InputError, match=r"cannot be run on an image of \(3, 8, 8\): SystemExit: 3 \(.*net\.py:4\)"):
        load_model(ModelSpec(source="net.py:make"), 2, tmp_path, head="keep", side=8)
