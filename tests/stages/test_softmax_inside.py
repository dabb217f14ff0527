"""A model that ends in a softmax is pared down as the same model without it, and its artifact still answers with
probabilities."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from paredown.models.compression.channel_importance import rank_channels
from paredown.models.data.dataset import ImageData
from paredown.models.loading.spec import ModelSpec
from paredown.stages.base import State
from paredown.stages.measuring.accuracy import logits_of
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.training.schedule import Schedule
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

SHORT = Schedule(epochs=1, lr=1e-3, bf16=False)
"""What is faster is measured, for each of the two by itself."""
SOFT = """

class Soft(Net):
    def forward(self, x):
        return torch.softmax(super().forward(x), 1)


def soft(classes):
    return Soft(classes)
"""

Run = Callable[..., State]


@pytest.fixture
def soft(finished: State, tmp_path: Path, tools: Any) -> State:
    """The finished run's state, of the same model with a softmax at its end, in a folder of its own."""
    (tmp_path / "soft.py").write_text(tools.net_source + SOFT)
    for name in ("exact.py", "net.pth", "images.npz"):
        shutil.copy(finished.root / name, tmp_path / name)
    model = ModelSpec(source="soft.py:soft", weights="net.pth")
    return replace(finished, model=model, root=tmp_path, out=tmp_path)


def assert_same_weights(plain: State, soft: State, product: str) -> None:
    wanted, learnt = (load_file(one.product(product) / "weights.safetensors") for one in (plain, soft))
    assert wanted.keys() == learnt.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(learnt[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_it_recovers_to_the_same_weights(finished: State, soft: State, run: Run, tmp_path: Path) -> None:
    """After `compress`, in float, and with int8 imitated; the artifact answers with probabilities."""
    (tmp_path / "plain").mkdir()
    plain = run(finished, "recover", tmp_path / "plain", distil=SHORT, quantize=SHORT)
    soft = run(run(soft, "compress", batches=2), "recover", distil=SHORT, quantize=SHORT)
    assert_same_weights(plain, soft, "compressed")
    assert_same_weights(plain, soft, "recovered")
    soft, data = run(soft, "export", agreement=0.8), soft.open_data()
    sums = logits_of(soft.product("exported") / "model.onnx", data, data.validation, soft).sum(1)
    assert sums == pytest.approx(1, abs=1e-5)


def test_it_is_fitted_to_the_same_weights(finished: State, soft: State, run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = run(finished, "fit", tmp_path / "plain", epochs=1, bf16=False)
    assert_same_weights(plain, run(soft, "fit", epochs=1, bf16=False), "original")


def test_its_candidates_cost_the_same(net: nn.Module, data: ImageData, tools: Any) -> None:
    ended = copy.deepcopy(net)
    ended.register_forward_hook(lambda _module, _images, logits: logits.softmax(1))
    plain, soft = tools.subject_of(net), tools.subject_of(ended)
    images = torch.randn(16, *tools.shape, generator=torch.Generator().manual_seed(0))
    for choice in ({"narrow:block.conv1": "8"}, {"quantize:block.conv1": "int8"}, {"narrow:pointwise.0": "16"}):
        costs = [
            TeacherComparison(PlanSpace(one, (Narrow(), Quantize())), images).loss(choice) for one in (plain, soft)
        ]
        assert costs[0] == costs[1] > 0
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data.batches(data.calibration, 16)]
    ranked = [rank_channels(one.network, one.groups, batches) for one in (plain, soft)]
    assert ranked[0] == ranked[1]
