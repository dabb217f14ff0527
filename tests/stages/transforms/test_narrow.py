"""Narrowed graphs compute what the module with its channels at zero computes."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from paredown.stages.transforms.narrow import Narrow


class Sloped(nn.Module):
    """Activations with a slope per channel, and one with a single slope."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.first = nn.Conv2d(3, 16, 3, 2, 1), nn.PReLU(16)
        self.b, self.second = nn.Conv2d(16, 16, 3, 1, 1), nn.PReLU(16)
        self.c, self.third, self.fc = nn.Conv2d(16, 32, 1), nn.PReLU(), nn.Linear(32, 3)
        for slopes in (self.first, self.second, self.third):
            nn.init.uniform_(slopes.weight, 0.1, 0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.a(x))
        x = self.second(self.b(x) + x)
        out: torch.Tensor = self.fc(self.third(self.c(x)).mean((2, 3)))
        return out


@pytest.mark.parametrize("level", [0, 2], ids=["three-quarters", "quarter"])
def test_slopes_go_with_their_channels(tools: Any, level: int) -> None:
    torch.manual_seed(0)
    prepared, narrow = tools.subject_of(Sloped().eval()), Narrow()
    choice = narrow.uniform(prepared)[level]
    assert len(choice) == 2
    images = torch.randn(1, *tools.shape)
    lowered = narrow.lower(prepared, choice, prepared.model).SerializeToString()
    session = onnxruntime.InferenceSession(lowered)
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        applied = narrow.apply(prepared, choice, prepared.network.module)(images)
    assert np.allclose(answer, applied, atol=1e-5)
