"""The one training loop: resumable to the bit, with a moving average of the weights, alone or under torchrun."""

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from paredown.models.compression.sparsity_masks import Masks, reapply
from paredown.models.data.dataset import Data, Split
from paredown.models.progress import Progress
from paredown.models.spec import Spec
from paredown.stages.products.training_curve import Epoch
from paredown.stages.training.autocast import bf16_pays, remembered

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Of the module in training mode, a batch of images (N, 3, H, W) and its labels (N,)."""


class Schedule(Spec):
    """How long and how fast to train."""

    epochs: int = Field(4, ge=0, description="passes over the training images")
    batch: int = Field(32, ge=2, description="images per step and process")
    lr: float = Field(
        default=1e-3, gt=0, description="peak learning rate of AdamW; warms up for a tenth, then falls as a cosine"
    )
    weight_decay: float = Field(0.02, ge=0, description="of convolutions and linear layers")
    ema: float = Field(0.97, ge=0, lt=1, description="decay per step of the averaged weights that are kept")
    bf16: bool | None = Field(None, description="train in bf16; left out: where it is faster, measured once")


@dataclass(frozen=True)
class Task:
    """What a training run needs beside the module; its checkpoints go into `folder`, what it found out about this
    machine into `cache`."""

    phase: str
    data: Data
    schedule: Schedule
    loss: Loss
    folder: Path
    cache: Path
    seed: int
    progress: Progress
    masks: Masks = field(default_factory=Masks)


def supervised(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with a little label smoothing."""
    return cross_entropy(module(images), labels, label_smoothing=0.05)


def train(module: nn.Module, task: Task) -> list[Epoch]:
    """Train in place; the module ends with the averaged weights of its best epoch on validation.

    Zeros that the task's masks impose stay zero throughout; an epoch counts as best only once they are all there. Every
    epoch ends in a checkpoint `<phase>.pt` in the task's folder. A call that finds one goes on from it and ends
    in the same weights as a call that was never stopped.
    """
    device = training_device()
    module.to(device)
    run = _Run(module, task, steps=_steps(task))
    run.restore()
    for epoch in range(run.epoch, task.schedule.epochs):
        run.train_epoch(epoch)
        run.save()
    if run.best is not None:
        module.load_state_dict(run.best)
    # In the layout that a call which finds everything trained leaves: other layouts round otherwise.
    module.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return run.curve


def accuracy(module: nn.Module, data: Data, split: Split, batch: int = 64) -> float:
    """Points (0 to 100) of a module on a split."""
    module.eval()
    device, right = next(module.parameters()).device, 0
    with torch.inference_mode():
        for images, labels in data.batches(split, batch):
            logits = module(torch.from_numpy(images).to(device, memory_format=torch.channels_last))
            right += int((logits.argmax(1).cpu() == torch.from_numpy(labels)).sum())
    return 100 * right / len(split)


def training_device() -> torch.device:
    """The device to train on: this process's GPU where there is one."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    )


def computes_on() -> dict[str, Any]:
    """`device`, `threads` and `processes` of this process's training."""
    device = training_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", 1))}


def rank_and_size() -> tuple[int, int]:
    """(rank, size) of the torchrun job; joins it when that has not happened yet."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), size) if size > 1 else (0, 1)


def _steps(task: Task) -> int:
    _, size = rank_and_size()
    return max(1, len(task.data.train) // size // task.schedule.batch)


class _Run:
    """The state of a training run: all that a checkpoint holds."""

    def __init__(self, module: nn.Module, task: Task, steps: int) -> None:
        self.module, self.task, self.steps = module, task, steps
        self.rank, self.size = rank_and_size()
        self.average = copy.deepcopy(module).eval()
        self.optimizer = torch.optim.AdamW(_parameters(module, task.schedule))
        self.epoch, self.step, self.curve = 0, 0, list[Epoch]()
        self.best: dict[str, Tensor] | None = None
        self.bf16 = task.schedule.bf16
        self.masks = dict[str, Tensor]()
        self.wrapped: nn.Module = DistributedDataParallel(module) if self.size > 1 else module

    def train_epoch(self, epoch: int) -> None:
        start, total, schedule = time.monotonic(), 0.0, self.task.schedule
        torch.manual_seed(self.task.seed * 1000 + epoch)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module.train()
        self.masks = self.task.masks.impose(self.module, epoch)
        reapply(self.average, self.masks)
        batches = self.task.data.training_batches(schedule.batch, epoch, self.task.seed, self.rank, self.size)
        for index, (images, labels, _) in enumerate(batches):
            total += self._step(images, labels)
            done = epoch + (index + 1) / self.steps
            self.task.progress(f"{self.task.phase}: epoch {epoch + 1}/{schedule.epochs}", done, schedule.epochs)
        points = accuracy(self.average, self.task.data, self.task.data.validation)
        seconds = time.monotonic() - start
        entry = Epoch(self.task.phase, epoch + 1, total / self.steps, points, seconds, bool(self.bf16), **computes_on())
        before = [past.accuracy for past in self.curve if self.task.masks.settled(past.epoch - 1)]
        if self.task.masks.settled(epoch) and points >= max(before, default=0.0):
            self.best = copy.deepcopy(self.average.state_dict())
        self.curve.append(entry)
        self.epoch = epoch + 1

    def _step(self, images: Tensor, labels: Tensor) -> float:
        device = training_device()
        images, labels = images.to(device), labels.to(device)
        if self.bf16 is None:
            self.bf16 = self._bf16(images, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.schedule.lr * warm_cosine(self.step, self.steps * self.task.schedule.epochs)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.loss(self.wrapped, images, labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self.optimizer.step()
        reapply(self.module, self.masks)
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _bf16(self, images: Tensor, labels: Tensor) -> bool:
        probe = copy.deepcopy(self.module)

        def step() -> None:
            self.task.loss(probe, images, labels).backward()  # type: ignore[no-untyped-call]

        prepared = f"{self.task.phase} {tuple(images.shape)} {self.module}"
        told = torch.tensor(self.rank == 0 and remembered(self.task.cache / "bf16", prepared, lambda: bf16_pays(step)))
        if self.size > 1:
            told = told.to(training_device())
            dist.broadcast(told, 0)  # a clock of one's own may tell each rank something else
        return bool(told)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.task.schedule.ema, (1 + self.step) / (10 + self.step))
        for kept, now in zip(self.average.state_dict().values(), self.module.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - decay)
            else:
                kept.copy_(now)

    @property
    def _path(self) -> Path:
        return self.task.folder / f"{self.task.phase}.pt"

    def save(self) -> None:
        if self.rank == 0:
            fresh = self._path.with_suffix(".tmp")
            torch.save(self._checkpoint(), fresh)
            fresh.replace(self._path)
        if self.size > 1:
            dist.barrier()

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "epoch": self.epoch,
            "step": self.step,
            "bf16": self.bf16,
            "curve": [vars(entry) for entry in self.curve],
        }

    def restore(self) -> None:
        if not self._path.exists():
            return
        saved = torch.load(self._path, map_location=training_device(), weights_only=True)
        self.module.load_state_dict(saved["module"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.epoch, self.step, self.bf16 = (saved[k] for k in ("best", "epoch", "step", "bf16"))
        self.curve = [Epoch(**entry) for entry in saved["curve"]]


def _parameters(module: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Biases and norms do not decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {
            "params": [p for p in trained if p.ndim > 1],
            "lr": schedule.lr,
            "weight_decay": schedule.weight_decay,
        },
        {"params": [p for p in trained if p.ndim <= 1], "lr": schedule.lr, "weight_decay": 0.0},
    ]


def warm_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
