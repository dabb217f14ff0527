"""The training loop learns, keeps its best, and goes on to the bit where it was stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError
from paredown.stages.training.autocast import remembered_answer
from paredown.stages.training.loop import module_accuracy, train_network
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.task import TrainingTask, supervised_loss


class StoppedError(Exception):
    """What ends a run in these tests."""


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


@pytest.fixture
def task(data: ImageData, tmp_path: Path) -> TrainingTask:
    flipped = replace(data, augment="flip")
    return TrainingTask(
        "phase", flipped, Schedule(epochs=3, lr=0.01), supervised_loss, tmp_path, tmp_path / "cache", 0, lambda *_: None
    )


def stop_at(moment: float) -> Callable[[str, float, float], None]:
    def progress(text: str, done: float, total: float) -> None:
        if done >= moment:
            raise StoppedError

    return progress


def layouts(module: nn.Module) -> list[tuple[int, ...]]:
    return [parameter.stride() for parameter in module.parameters()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns(task: TrainingTask) -> None:
    module = small()
    before = module_accuracy(module, task.data, task.data.validation)
    curve = train_network(module, replace(task, schedule=Schedule(epochs=12, lr=0.02, ema=0.8)))
    assert curve[-1].loss < curve[0].loss
    after = module_accuracy(module, task.data, task.data.validation)
    assert after > before
    assert after > 60
    assert not module.training
    assert [epoch.epoch for epoch in curve] == list(range(1, 13))


@pytest.mark.parametrize("moment", [0.4, 1.0, 1.4, 2.7])
def test_stopped_anywhere_it_ends_in_the_same_weights(task: TrainingTask, tmp_path: Path, moment: float) -> None:
    whole, stopped = small(), small()
    (tmp_path / "whole").mkdir()
    expected = train_network(whole, replace(task, folder=tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train_network(stopped, replace(task, progress=stop_at(moment)))
    resumed = small()
    if moment > 1:  # what the module holds does not matter where there is a checkpoint
        with torch.no_grad():
            resumed.get_parameter("0.weight").fill_(7)
    got = train_network(resumed, task)
    assert same(whole, resumed)
    again = small()
    train_network(again, task)
    assert layouts(whole) == layouts(resumed) == layouts(again), "in another layout later stages round otherwise"
    assert [(e.epoch, e.loss, e.accuracy) for e in got] == [(e.epoch, e.loss, e.accuracy) for e in expected]


def test_the_module_ends_as_the_average_of_its_best_epoch(task: TrainingTask) -> None:
    module = small()
    curve = train_network(module, task)
    best = max(entry.accuracy for entry in curve)
    assert module_accuracy(module, task.data, task.data.validation) == best
    assert curve == train_network(small(), task)


def test_nothing_is_trained_in_no_epochs(task: TrainingTask) -> None:
    module = small()
    assert train_network(module, replace(task, schedule=Schedule(epochs=0))) == []
    assert same(module, small())


def test_the_seed_decides(task: TrainingTask, tmp_path: Path) -> None:
    modules = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        modules.append(small())
        train_network(modules[-1], replace(task, folder=tmp_path / name, seed=seed, schedule=Schedule(epochs=1)))
    assert same(modules[0], modules[1])
    assert not same(modules[0], modules[2])


def test_frozen_parameters_stay(task: TrainingTask) -> None:
    module, start = small(), small()
    module[0].requires_grad_(False)
    train_network(module, replace(task, schedule=Schedule(epochs=1, lr=0.01)))
    assert torch.equal(module[0].weight, start[0].weight)
    assert not torch.equal(module[3].weight, start[3].weight)


def test_progress_rises_to_the_end(task: TrainingTask) -> None:
    said: list[tuple[str, float, float]] = []
    train_network(small(), replace(task, progress=lambda *entry: said.append(entry)))
    done = [entry[1] for entry in said]
    assert done == sorted(done)
    assert done[-1] == said[-1][2] == 3
    assert said[0][0] == "phase: epoch 1/3"


def test_no_half_written_checkpoint_is_left(task: TrainingTask) -> None:
    train_network(small(), task)
    assert sorted(file.name for file in task.folder.iterdir()) == ["cache", "phase.pt"]


def test_a_split_smaller_than_a_batch_is_trained_on(task: TrainingTask) -> None:
    module: Any = small()
    data = replace(task.data, train=task.data.train.take(9, 0))
    curve = train_network(module, replace(task, data=data, schedule=Schedule(epochs=1, batch=64)))
    assert curve[0].loss > 0
    assert not same(module, small())


def test_a_clock_is_asked_once(tmp_path: Path) -> None:
    """Else the same run, again on a busier machine, would end in other weights."""
    answers = iter([True, False, False])
    assert remembered_answer(tmp_path, "this step", lambda: next(answers))
    assert remembered_answer(tmp_path, "this step", lambda: next(answers))
    assert not remembered_answer(tmp_path, "another step", lambda: next(answers))
    assert not remembered_answer(tmp_path / "other", "this step", lambda: next(answers))


def test_asking_the_clock_draws_no_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    remembered_answer(tmp_path, "a step", lambda: bool(torch.rand(1) < 2))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


def test_a_schedule_that_says_so_asks_no_clock(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paredown.stages.training.loop.bf16_pays", lambda _: pytest.fail("it was measured"))
    for bf16 in (True, False):
        (task.folder / "phase.pt").unlink(missing_ok=True)
        (epoch,) = train_network(small(), replace(task, schedule=Schedule(epochs=1, bf16=bf16)))
        assert (epoch.bf16, epoch.device, epoch.threads, epoch.processes) == (bf16, "cpu", 1, 1)


def test_a_model_whose_answers_have_no_gradient_is_refused(task: TrainingTask) -> None:
    class Detached(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="cannot be trained: its answers have no gradient"):
        train_network(Detached(*small().children()), task)


def test_what_is_handed_on_is_the_best_that_there_is(task: TrainingTask) -> None:
    """Statistics that lag behind their weights: a momentum so small that they stay where they began."""
    module = small()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1e-4
    schedule = Schedule(epochs=6, lr=0.02, ema=0.8)
    (task.folder / "lagging").mkdir()
    curve = train_network(module, replace(task, schedule=schedule, folder=task.folder / "lagging"))
    assert module_accuracy(module, task.data, task.data.validation) == max(epoch.accuracy for epoch in curve)
    plain = small()
    expected = max(epoch.accuracy for epoch in train_network(plain, replace(task, schedule=schedule)))
    assert max(epoch.accuracy for epoch in curve) > 0.9 * expected
    assert not torch.allclose(module[1].running_var, torch.ones(8), atol=0.01)


def test_weights_of_the_last_step_are_kept_where_their_average_is_worse(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paredown.stages.training.loop._TrainingRun._update_average", lambda _: None)
    module = small()
    untrained = module_accuracy(module, task.data, task.data.validation)
    curve = train_network(module, replace(task, schedule=Schedule(epochs=8, lr=0.02)))
    assert module_accuracy(module, task.data, task.data.validation) == max(epoch.accuracy for epoch in curve)
    assert max(epoch.accuracy for epoch in curve) > untrained + 20
