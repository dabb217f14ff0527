"""Wins accuracy back: distils the compressed network from the original, in float and then with its int8 imitated."""

from contextlib import closing
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from paredown.models.compression.scales import Range
from paredown.models.compression.sparsity_masks import SparsityMasks
from paredown.models.data.dataset import ImageData
from paredown.models.loading.tensors import load_tensors
from paredown.models.network.gradients import untrained_notes
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.teacher import load_teacher, save_weights
from paredown.stages.base import Stage, State
from paredown.stages.products.plan import Plan
from paredown.stages.products.product_files import write_notes
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch
from paredown.stages.training.device import rank_and_size
from paredown.stages.training.distillation import Distillation, LossWeights, Points, feature_points
from paredown.stages.training.learnt import check_learnt
from paredown.stages.training.loop import train_network
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.statistics import BATCHES
from paredown.stages.training.student import (
    LoweredStudent,
    apply_plan,
    calibration_batches,
    load_compressed,
    planned_engine,
    planned_zeros,
    settle_batch_norm,
)
from paredown.stages.training.task import Loss, TrainingTask
from paredown.stages.transforms.loading import profiled_transforms


class Recover(Stage):
    """Fine-tunes and distils the compressed network, in float and then with int8 imitated."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "plan", "compressed")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "recovered"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")
    distributed: ClassVar[bool] = True

    gradual: int = Field(
        0,
        ge=0,
        description="epochs of the float phase over which sparsity grows to what was planned; 0: it is there before",
    )
    distil: Schedule = Field(default=Schedule(epochs=8, lr=1e-3), description="the float phase")
    quantize: Schedule = Field(default=Schedule(epochs=2, lr=1e-4), description="the int8 phase; skipped without int8")
    logits: float = Field(default=0.7, ge=0, description="weight of the teacher's softened answers")
    labels: float = Field(default=0.3, ge=0, description="weight of the labels")
    features: float = Field(default=0.5, ge=0, description="weight of the teacher's features (float phase)")
    temperature: float = Field(default=2.0, gt=0, description="softness of the teacher's answers")

    @model_validator(mode="after")
    def grows_in_time(self) -> "Recover":
        if self.gradual > self.distil.epochs:
            raise ValueError(f"gradual ({self.gradual}) is more than the epochs of distil ({self.distil.epochs})")
        return self

    def run(self, state: State) -> None:
        data = state.open_data()
        teacher = load_teacher(state, data)
        told = "original" in state.products  # by fit
        notes = [] if told else untrained_notes(teacher, state.image_shape)
        student = self._student(teacher, data, state)
        curve = self._distil(teacher, student, data, state)
        lowered = LoweredStudent.of(student, state)
        ranges = lowered.ranges(planned_engine(state), calibration_batches(data))
        if lowered.int8:
            curve += self._quantize(teacher, lowered, ranges, data, state)
        if rank_and_size()[0] > 0:
            return  # rank 0 writes for all
        save_weights(lowered.network.module, state.out / "weights.safetensors")
        CalibratedRanges(ranges).save(state.out)
        TrainingCurve(tuple(curve)).save(state.out)
        write_notes(state.out, notes)
        for checkpoint in state.out.glob("*.pt"):
            checkpoint.unlink()

    def rehearse(self, state: State) -> bool:
        """One training step in float, and one with int8 imitated."""
        shortest = {"distil": self.distil.shortest(), "quantize": self.quantize.shortest()}
        self.model_copy(update={**shortest, "gradual": min(self.gradual, shortest["distil"].epochs)}).run(state)
        check_learnt(state.out)
        return True

    def _student(self, teacher: nn.Module, data: ImageData, state: State) -> nn.Module:
        """What `compress` left; before sparsity that is still to grow, the same without it."""
        if not (self.gradual and planned_zeros(state)):
            return load_compressed(state, data)
        module = apply_plan(state, data, dense=True)
        settle_batch_norm(module, teacher, data, BATCHES, state.seed)
        return module

    def _distil(self, teacher: nn.Module, student: nn.Module, data: ImageData, state: State) -> list[TrainingEpoch]:
        """Train in float, in place."""
        points = self._points(teacher, state) if self.features else {}
        with closing(self._loss(teacher, student, points)) as loss:
            return train_network(student, self._task("distil", data, loss, state))

    def _points(self, teacher: nn.Module, state: State) -> Points:
        choice = Plan.load(state.product("plan")).choice
        return feature_points(load_prepared_model(state), profiled_transforms(state), choice, teacher)

    def _quantize(
        self, teacher: nn.Module, lowered: LoweredStudent, ranges: dict[str, Range], data: ImageData, state: State
    ) -> list[TrainingEpoch]:
        """Train the imitation of the artifact and put its weights back into the folded module."""
        imitation = lowered.imitation(ranges)
        with closing(self._loss(teacher, imitation, {})) as loss:
            curve = train_network(imitation, self._task("quantize", data, loss, state))
        trained = dict(imitation.named_parameters())
        named = (name for name, _ in lowered.network.module.named_parameters() if name in trained)  # others are unused
        load_tensors(lowered.network.module, {name: trained[name].detach() for name in named}, strict=False)
        return curve

    def _loss(self, teacher: nn.Module, student: nn.Module, points: Points) -> Distillation:
        weights = LossWeights(self.logits, self.labels, self.features if points else 0.0, self.temperature)
        return Distillation(teacher, student, weights, points)

    def _task(self, phase: Literal["distil", "quantize"], data: ImageData, loss: Loss, state: State) -> TrainingTask:
        schedule, growth = (self.distil, self.gradual) if phase == "distil" else (self.quantize, 0)
        masks = SparsityMasks(planned_zeros(state), growth)
        return TrainingTask(phase, data, schedule, loss, state.out, state.cache, state.seed, state.progress, masks)


PLUGIN = Recover
