"""Networks that draw random numbers where they should answer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.models.errors import InputError
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.export import export_onnx


class Drawing(nn.Module):
    def __init__(self, change: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.a, self.fc, self.change = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), change

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.change(self.a(x), self.training).mean((2, 3)))
        return out


def _noise(x: Tensor, training: bool) -> Tensor:
    return x + torch.randn_like(x)


def _drop_path(x: Tensor, training: bool) -> Tensor:
    return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.9)


def _noise_in_training(x: Tensor, training: bool) -> Tensor:
    return x + torch.randn_like(x) if training else x


def _dropout(x: Tensor, training: bool) -> Tensor:
    return functional.dropout(x, 0.5)


def _maps_dropped(x: Tensor, training: bool) -> Tensor:
    return functional.dropout2d(x, 0.1, training=True, inplace=True)


def _random_slopes(x: Tensor, training: bool) -> Tensor:
    return functional.rrelu(x, training=True)


def _attention(x: Tensor, training: bool) -> Tensor:
    rows = x.flatten(2)
    return functional.scaled_dot_product_attention(rows, rows, rows, dropout_p=0.1).reshape(x.shape)


@pytest.mark.parametrize(
    ("change", "operator"),
    [
        (_noise, "randn_like"),
        (_drop_path, "bernoulli"),
        (_dropout, "dropout"),
        (_maps_dropped, "feature_dropout"),
        (_random_slopes, "rrelu"),
        (_attention, "scaled_dot_product_attention"),
    ],
)
def test_random_numbers_in_evaluation_are_refused_with_their_place(
    change: Callable[[Tensor, bool], Tensor], operator: str
) -> None:
    with pytest.raises(InputError, match=rf"draws random numbers.*\({operator} at .*test_chance\.py:\d+\)"):
        analyse_network(Drawing(change).eval(), (3, 8, 8))


def test_it_is_not_exported_either() -> None:
    with pytest.raises(InputError, match="draws random numbers"):
        export_onnx(Drawing(_dropout).eval(), (3, 8, 8))


class AlwaysDropout(nn.Dropout):
    """As people sample with it: its mode cannot be set."""

    def train(self, mode: bool = True) -> "AlwaysDropout":
        return super().train(True)


def test_a_dropout_module_that_stays_on_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), AlwaysDropout(0.2), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"draws random numbers in evaluation mode \(dropout"):
        analyse_network(net.eval(), (3, 8, 8))


@pytest.mark.parametrize(
    "change", [lambda x, on: functional.dropout(x, 0.5, on), lambda x, on: functional.dropout(x, 0.0)]
)
def test_dropout_that_is_off_does_not_matter(change: Callable[[Tensor, bool], Tensor]) -> None:
    assert len(analyse_network(Drawing(change).eval(), (3, 8, 8)).layers) == 2


def test_random_numbers_in_training_alone_do_not_matter() -> None:
    assert len(analyse_network(Drawing(_noise_in_training).eval(), (3, 8, 8)).layers) == 2
