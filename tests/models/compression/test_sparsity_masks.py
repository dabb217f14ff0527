"""Zeros that are held while a network is trained, and that grow over epochs."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from paredown.models.compression.sparsity import Sparsity, prune_by_magnitude
from paredown.models.compression.sparsity_masks import SparsityMasks
from paredown.models.data.dataset import ImageData
from paredown.models.progress import silent_progress
from paredown.stages.training.loop import train_network
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.task import TrainingTask, supervised_loss

BLOCKS, HALF = Sparsity("block4", 0.75), Sparsity("2:4", 0.5)
LAYERS = {"block.conv1": BLOCKS, "pointwise.0": HALF}


def task_of(data: ImageData, folder: Path, masks: SparsityMasks, epochs: int = 3) -> TrainingTask:
    schedule = Schedule(epochs=epochs, lr=0.01, ema=0.5)
    return TrainingTask("distil", data, schedule, supervised_loss, folder, folder / "cache", 0, silent_progress, masks)


def zeros(module: nn.Module, layer: str) -> torch.Tensor:
    return module.get_parameter(f"{layer}.weight") == 0


def pruned(net: nn.Module) -> nn.Module:
    for layer, sparsity in LAYERS.items():
        weight = net.get_parameter(f"{layer}.weight")
        weight.data = prune_by_magnitude(weight.data, sparsity)
    return net


def test_zeros_stay_exactly_where_they_are(net: nn.Module, data: ImageData, tmp_path: Path) -> None:
    before = {layer: zeros(pruned(net), layer) for layer in LAYERS}
    old = net.get_parameter("block.conv1.weight").clone()
    train_network(net, task_of(data, tmp_path, SparsityMasks(LAYERS)))
    assert all(torch.equal(zeros(net, layer), before[layer]) for layer in LAYERS)
    assert not torch.equal(net.get_parameter("block.conv1.weight"), old)


def test_without_masks_they_would_not(net: nn.Module, data: ImageData, tmp_path: Path) -> None:
    train_network(pruned(net), task_of(data, tmp_path, SparsityMasks()))
    assert not zeros(net, "block.conv1").any()


def test_sparsity_grows_along_a_cubic(net: nn.Module) -> None:
    masks = SparsityMasks({"block.conv1": BLOCKS}, growth=3)
    shares = []
    for epoch in range(4):
        kept = masks.apply(net, epoch)["block.conv1.weight"]
        shares.append(1 - float(kept.mean()))
        assert torch.equal(kept == 0, zeros(net, "block.conv1"))
    assert shares == pytest.approx([0.75 * (1 - (2 / 3) ** 3), 0.75 * (1 - (1 / 3) ** 3), 0.75, 0.75], abs=0.01)


def test_growth_does_not_prune_past_the_plan(net: nn.Module) -> None:
    """Channels that were emptied on the way count as zeros, not as gone."""
    layer = nn.Conv2d(16, 64, 1)
    masks = SparsityMasks({"0": Sparsity("block4", 0.95)}, growth=8)
    module = nn.Sequential(layer)
    for epoch in range(8):
        masks.apply(module, epoch)
    assert float((layer.weight == 0).float().mean()) == pytest.approx(0.95, abs=0.01)


def test_what_is_kept_has_all_zeros_although_an_earlier_epoch_may_have_been_better(
    net: nn.Module, data: ImageData, tmp_path: Path
) -> None:
    curve = train_network(net, task_of(data, tmp_path, SparsityMasks({"block.conv1": BLOCKS}, growth=2), epochs=2))
    assert len(curve) == 2
    assert float(zeros(net, "block.conv1").float().mean()) == pytest.approx(0.75, abs=0.01)


def test_a_stopped_growth_goes_on_to_the_same_weights(net: nn.Module, data: ImageData, tmp_path: Path) -> None:
    whole, stopped = copy.deepcopy(net), copy.deepcopy(net)
    masks = SparsityMasks({"block.conv1": BLOCKS}, growth=2)
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    train_network(whole, task_of(data, tmp_path / "whole", masks))
    task = task_of(data, tmp_path / "stopped", masks)

    def stop(text: str, done: float, total: float) -> None:
        if done > 1.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(copy.deepcopy(net), replace(task, progress=stop))
    train_network(stopped, task)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), stopped.state_dict().values(), strict=True)
    )
