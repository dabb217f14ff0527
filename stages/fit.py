"""Fits a pretrained network to your classes: for when "the model you already have" is yet to be made."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from paredown.models.network.gradients import untrained_notes
from paredown.stages.analysis.teacher import open_original, save_weights
from paredown.stages.base import Stage, State
from paredown.stages.products.product_files import NOTES, write_notes
from paredown.stages.products.training_curve import TrainingCurve
from paredown.stages.training.device import rank_and_size
from paredown.stages.training.learnt import check_learnt
from paredown.stages.training.loop import train_network
from paredown.stages.training.outcome import rising_notes
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.task import TrainingTask, supervised_loss


class Fit(Schedule, Stage):
    """Fine-tunes the loaded network on the training split, with a fresh head where the class count differs.

    Parameters that the model's code froze stay as they are, unless none is left to train; later stages train them all.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str] = "original"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "seed")
    distributed: ClassVar[bool] = True

    epochs: int = Field(4, ge=1, description="passes over the training images")

    def run(self, state: State) -> None:
        data = state.open_data()
        loaded = open_original(state, data, head="replace")
        module = loaded.module
        notes = [*loaded.notes, *thawed(module), *untrained_notes(module, state.image_shape)]
        task = TrainingTask("fit", data, self, supervised_loss, state.out, state.cache, state.seed, state.progress)
        curve = train_network(module, task)
        if rank_and_size()[0] > 0:
            return  # rank 0 writes for all
        save_weights(module, state.out / "weights.safetensors")
        TrainingCurve(tuple(curve)).save(state.out)
        write_notes(state.out, [*notes, *rising_notes(curve, len(data.validation))])
        (state.out / "fit.pt").unlink(missing_ok=True)

    def rehearse(self, state: State) -> bool:
        self.shortest().run(state)
        check_learnt(state.out)
        (state.out / NOTES).unlink(missing_ok=True)  # of an epoch that is none
        return True


def thawed(module: nn.Module) -> list[str]:
    """Lets all parameters train where none would; a line that says what trains, where some are frozen."""
    frozen = sum(not parameter.requires_grad for parameter in module.parameters())
    total = sum(1 for _ in module.parameters())
    if not frozen:
        return []
    if frozen < total:
        return [f"fit: the model's code froze {frozen} of {total} parameters, they stay so; recover trains them all"]
    module.requires_grad_()
    return ["fit: the model's code froze all parameters; they are trained here"]


PLUGIN = Fit
