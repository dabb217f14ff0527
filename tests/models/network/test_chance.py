"""Networks that draw random numbers where they should answer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.network.trace import analyse_network


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


@pytest.mark.parametrize(
    ("change", "operator"), [(_noise, "randn_like"), (_drop_path, "bernoulli")], ids=["noise", "drop_path"]
)
def test_random_numbers_in_evaluation_are_refused_with_their_place(
    change: Callable[[Tensor, bool], Tensor], operator: str
) -> None:
    with pytest.raises(InputError, match=rf"draws random numbers.*\({operator} at .*test_chance\.py:\d+\)"):
        analyse_network(Drawing(change).eval(), (3, 8, 8))


def test_random_numbers_in_training_alone_do_not_matter() -> None:
    assert len(analyse_network(Drawing(_noise_in_training).eval(), (3, 8, 8)).layers) == 2
