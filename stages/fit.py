"""Fits a pretrained network to your classes: for when "the model you already have" is yet to be made."""

from typing import ClassVar

from pydantic import Field

from paredown.models.loading.model import load_model
from paredown.stages.analysis.teacher import save_weights
from paredown.stages.base import Stage, State
from paredown.stages.products.training_curve import TrainingCurve
from paredown.stages.training.device import rank_and_size
from paredown.stages.training.loop import train_network
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.task import TrainingTask, supervised_loss


class Fit(Schedule, Stage):
    """Fine-tunes the loaded network on the training split, with a fresh head where the class count differs."""

    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str] = "original"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "seed")
    distributed: ClassVar[bool] = True

    epochs: int = Field(4, ge=1, description="passes over the training images")

    def run(self, state: State) -> None:
        data = state.open_data()
        module = load_model(state.model, len(data.classes), state.root, head="replace")
        task = TrainingTask("fit", data, self, supervised_loss, state.out, state.cache, state.seed, state.progress)
        curve = train_network(module, task)
        if rank_and_size()[0] > 0:
            return  # rank 0 writes for all
        save_weights(module, state.out / "weights.safetensors")
        TrainingCurve(tuple(curve)).save(state.out)
        (state.out / "fit.pt").unlink(missing_ok=True)


PLUGIN = Fit
