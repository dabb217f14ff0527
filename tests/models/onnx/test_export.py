"""What torch cannot trace or export is refused in one line, and nothing else is printed."""

import pytest
import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.onnx.export import export_onnx


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.change(self.a(x)).mean((2, 3)))
        return out

    def change(self, x: Tensor) -> Tensor:
        return x


class Branching(Net):
    def change(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean() > 0 else x


class Fixed(Net):
    def change(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1).reshape(len(x), *x.shape[1:])


class Unknown(Net):
    def change(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Branching(), r"branches on values that it computes \(.*test_export\.py:\d+\)"),
        (Fixed(), "fixes the number of images in a batch"),
        (Unknown(), "bessel_j0"),
    ],
    ids=["branching", "fixed batch", "unknown operator"],
)
def test_what_cannot_be_exported_is_one_line(net: Net, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        export_onnx(net.eval(), (3, 8, 8))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
