"""The one training loop: resumable to the bit, with a moving average of the weights, alone or under torchrun."""

import copy
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from paredown.models.compression.sparsity_masks import reapply_masks
from paredown.models.data.dataset import ImageData, Split
from paredown.models.errors import InputError
from paredown.stages.products.training_curve import TrainingEpoch
from paredown.stages.training.autocast import bf16_pays, remembered_answer
from paredown.stages.training.device import computes_on, rank_and_size, training_device
from paredown.stages.training.schedule import Schedule, learning_rate_share
from paredown.stages.training.statistics import has_statistics, reestimate_batch_norm
from paredown.stages.training.task import TrainingTask


def train_network(module: nn.Module, task: TrainingTask) -> list[TrainingEpoch]:
    """Train in place; the module ends with the best that it had on validation after any epoch.

    After each epoch those are tried that training leaves: the averaged weights, with their averaged statistics of batch
    norms and with statistics estimated for them, and the weights of the last step. Averages of statistics belong to no
    weights, least of all early in training.

    Zeros of the task's masks stay zero throughout; an epoch counts as best only once they are all there. Every
    epoch ends in a checkpoint `<phase>.pt` in the task's folder. A call that finds one goes on from it and ends
    in the same weights as a call that was never stopped.
    """
    device = training_device()
    module.to(device)
    run = _TrainingRun(module, task, steps=_steps(task))
    run.restore()
    for epoch in range(run.epoch, task.schedule.epochs):
        run.train_epoch(epoch)
        run.save()
    if run.best is not None:
        module.load_state_dict(run.best)
    # In the layout that a call which finds everything trained leaves: other layouts round otherwise.
    module.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return run.curve


def module_accuracy(module: nn.Module, data: ImageData, split: Split, batch: int = 64) -> float:
    """Points (0 to 100) of a module on a split; an image whose logits are not all finite is a wrong one."""
    module.eval()
    device, right = next(module.parameters()).device, 0
    with torch.inference_mode():
        for images, labels in data.batches(split, batch):
            logits = module(torch.from_numpy(images).to(device, memory_format=torch.channels_last))
            answered = logits.isfinite().all(1).cpu()
            right += int((answered & (logits.argmax(1).cpu() == torch.from_numpy(labels))).sum())
    return 100 * right / len(split)


def _steps(task: TrainingTask) -> int:
    _, size = rank_and_size()
    return max(1, len(task.data.train) // size // task.schedule.batch)


class _TrainingRun:
    """The state of a training run: all that a checkpoint holds."""

    def __init__(self, module: nn.Module, task: TrainingTask, steps: int) -> None:
        self.module, self.task, self.steps = module, task, steps
        self.rank, self.size = rank_and_size()
        self.average = copy.deepcopy(module).eval()
        self.optimizer = torch.optim.AdamW(_parameters(module, task.schedule))
        self.epoch, self.step, self.curve = 0, 0, list[TrainingEpoch]()
        self.best: dict[str, Tensor] | None = None
        self.bf16 = task.schedule.bf16
        self.masks = dict[str, Tensor]()
        self.wrapped: nn.Module = DistributedDataParallel(module) if self.size > 1 else module

    def train_epoch(self, epoch: int) -> None:
        """Trains over all images once, and adds a point to the curve."""
        start = time.monotonic()
        loss = self._pass_over_images(epoch)
        weights, points = self._best_of_epoch()
        seconds = time.monotonic() - start
        self._keep_if_best(epoch, points, weights)
        on = computes_on()
        self.curve.append(TrainingEpoch(self.task.phase, epoch + 1, loss, points, seconds, bool(self.bf16), **on))
        self.epoch = epoch + 1

    def _pass_over_images(self, epoch: int) -> float:
        """One step per batch; the mean loss."""
        total, schedule = 0.0, self.task.schedule
        torch.manual_seed(self.task.seed * 1000 + epoch)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module.train()
        self.masks = self.task.masks.apply(self.module, epoch)
        reapply_masks(self.average, self.masks)
        batches = self.task.data.training_batches(schedule.batch, epoch, self.task.seed, self.rank, self.size)
        for index, (images, labels, _) in enumerate(batches):
            total += self._step(images, labels)
            done = epoch + (index + 1) / self.steps
            self.task.progress(f"{self.task.phase}: epoch {epoch + 1}/{schedule.epochs}", done, schedule.epochs)
        return total / self.steps

    def _best_of_epoch(self) -> tuple[dict[str, Tensor], float]:
        """The weights that are best on validation of those that training leaves now, and their points."""
        tried = [self.average, self.module]
        if has_statistics(self.average):
            settled = copy.deepcopy(self.average)
            reestimate_batch_norm(settled, self.task.data)
            tried = [settled, *tried]
        data = self.task.data
        points = [module_accuracy(one, data, data.validation) for one in tried]
        best = points.index(max(points))
        return tried[best].state_dict(), points[best]

    def _keep_if_best(self, epoch: int, points: float, weights: dict[str, Tensor]) -> None:
        """Keeps the weights where none before, of an epoch with all its zeros, are better on validation."""
        before = [past.accuracy for past in self.curve if self.task.masks.settled(past.epoch - 1)]
        if self.task.masks.settled(epoch) and points >= max(before, default=0.0):
            self.best = copy.deepcopy(weights)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        device = training_device()
        images, labels = images.to(device), labels.to(device)
        if self.bf16 is None:
            self.bf16 = self._bf16(images, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.schedule.lr * learning_rate_share(self.step, self.steps * self.task.schedule.epochs)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.loss(self.wrapped, images, labels)
        self.optimizer.zero_grad()
        with_gradient(loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self.optimizer.step()
        reapply_masks(self.module, self.masks)
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _bf16(self, images: Tensor, labels: Tensor) -> bool:
        """Whether a step is faster in bf16: measured on a copy of the module, or remembered from an earlier run."""
        probe = copy.deepcopy(self.module)

        def step() -> None:
            with_gradient(self.task.loss(probe, images, labels)).backward()  # type: ignore[no-untyped-call]

        question = f"{self.task.phase} {tuple(images.shape)} {self.module}"
        answer = self.rank == 0 and remembered_answer(self.task.cache / "bf16", question, lambda: bf16_pays(step))
        return self._of_first_rank(answer)

    def _of_first_rank(self, answer: bool) -> bool:
        """What rank 0 answers: each rank's own clock may say something else."""
        if self.size == 1:
            return answer
        shared = torch.tensor(answer).to(training_device())
        dist.broadcast(shared, 0)
        return bool(shared)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Moves the averaged weights towards those of now; in early steps by more, so that the start is soon gone."""
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
        """Rank 0 writes the checkpoint in one step, the others wait for it."""
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
        """Goes on from the phase's checkpoint where there is one."""
        if not self._path.exists():
            return
        saved = torch.load(self._path, map_location=training_device(), weights_only=True)
        self.module.load_state_dict(saved["module"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.epoch, self.step, self.bf16 = (saved[k] for k in ("best", "epoch", "step", "bf16"))
        self.curve = [TrainingEpoch(**entry) for entry in saved["curve"]]


def with_gradient(loss: Tensor) -> Tensor:
    """The loss; raises InputError where nothing can be learnt from it."""
    if not loss.requires_grad:
        why = "its answers have no gradient, as under torch.no_grad or after detach()"
        raise InputError(f"the model cannot be trained: {why}")
    return loss


def _parameters(module: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Biases and norms do not decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    return [
        {"params": matrices, "lr": schedule.lr, "weight_decay": schedule.weight_decay},
        {"params": vectors, "lr": schedule.lr, "weight_decay": 0.0},
    ]
