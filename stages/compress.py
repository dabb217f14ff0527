"""Applies the plan to the user's own module, and lets its batch norms see the new activations, where that helps."""

from typing import ClassVar

from pydantic import Field

from paredown.stages.analysis.teacher import load_teacher, save_weights
from paredown.stages.base import Stage, State
from paredown.stages.training.student import apply_plan, settle_batch_norm


class Compress(Stage):
    """Surgery on the original, then batch-norm statistics estimated again where they fit worse than new ones."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "plan")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "compressed"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    batches: int = Field(default=16, ge=1, description="batches of 32 training images for batch-norm statistics")

    def run(self, state: State) -> None:
        data = state.open_data()
        state.progress("compress: surgery", 0, 2)
        module = apply_plan(state, data)
        state.progress("compress: batch norm", 1, 2)
        settle_batch_norm(module, load_teacher(state, data), data, self.batches, state.seed)
        save_weights(module, state.out / "weights.safetensors")

    def rehearse(self, state: State) -> bool:
        self.model_copy(update={"batches": 1}).run(state)
        return True


PLUGIN = Compress
