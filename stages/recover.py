"""Wins accuracy back: distils the narrowed network from the original, then trains it with the artifact's scales."""

import json
from typing import ClassVar

from pydantic import Field, model_validator
from torch import nn

from paredown.models.compression.qdq import Range
from paredown.models.compression.sparsity_masks import Masks
from paredown.models.data.dataset import Data
from paredown.models.spec import Spec
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.teacher import load_teacher, save_weights
from paredown.stages.base import State
from paredown.stages.products.plan import load_choice
from paredown.stages.products.training_curve import Epoch
from paredown.stages.training.distillation import Distillation, Weights, feature_points
from paredown.stages.training.loop import Schedule, Task, rank_and_size, train
from paredown.stages.training.student import (
    Lowered,
    calibration,
    compressed,
    planned_engine,
    reestimate_batch_norm,
    save_ranges,
    surgery,
)
from paredown.stages.transforms.sparsify import sparse_layers


class Recover(Spec):
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
        original, student = load_teacher(state, data), self._student(data, state)
        curve = self._distil(original, student, data, state)
        lowered = Lowered.of(student, state)
        ranges = lowered.ranges(planned_engine(state), calibration(data))
        if lowered.int8:
            curve += self._quantize(original, lowered, ranges, data, state)
        if rank_and_size()[0] > 0:
            return  # rank 0 writes for all
        save_weights(lowered.network.module, state.out / "weights.safetensors")
        save_ranges(ranges, state.out)
        (state.out / "curves.json").write_text(json.dumps([vars(epoch) for epoch in curve], indent=2) + "\n")
        for checkpoint in state.out.glob("*.pt"):
            checkpoint.unlink()

    def _student(self, data: Data, state: State) -> nn.Module:
        """What `compress` left; before sparsity that is still to grow, the same without it."""
        if not (self.gradual and sparse_layers(load_choice(state))):
            return compressed(state, data)
        module = surgery(state, data, dense=True)
        reestimate_batch_norm(module, data, 16, state.seed)
        return module

    def _distil(self, original: nn.Module, student: nn.Module, data: Data, state: State) -> list[Epoch]:
        points = feature_points(load_prepared_model(state), load_choice(state), original) if self.features else {}
        curve = self._train("distil", original, student, points, self.distil, data, state)
        reestimate_batch_norm(student, data, 16, state.seed)
        return curve

    def _quantize(
        self, original: nn.Module, lowered: Lowered, ranges: dict[str, Range], data: Data, state: State
    ) -> list[Epoch]:
        """Train the imitation of the artifact and put its weights back into the folded module."""
        imitation = lowered.imitation(ranges)
        curve = self._train("quantize", original, imitation, {}, self.quantize, data, state)
        trained = dict(imitation.named_parameters())
        named = (name for name, _ in lowered.network.module.named_parameters() if name in trained)  # others are unused
        lowered.network.module.load_state_dict({name: trained[name].detach() for name in named}, strict=False)
        return curve

    def _train(
        self,
        phase: str,
        original: nn.Module,
        student: nn.Module,
        points: dict[str, list[int]],
        schedule: Schedule,
        data: Data,
        state: State,
    ) -> list[Epoch]:
        weights = Weights(self.logits, self.labels, self.features if points else 0.0, self.temperature)
        loss = Distillation(original, student, weights, points)
        masks = Masks(sparse_layers(load_choice(state)), self.gradual if phase == "distil" else 0)
        task = Task(phase, data, schedule, loss, state.out, state.cache, state.seed, state.progress, masks)
        try:
            return train(student, task)
        finally:
            loss.close()


PLUGIN = Recover
