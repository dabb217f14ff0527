"""How long and how fast to train, and the learning rate of every step."""

import math
from typing import Self

from pydantic import Field

from paredown.models.spec import Spec


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

    def shortest(self) -> Self:
        """The same for one epoch at most, and without measuring whether bf16 is faster: for a rehearsal."""
        return self.model_copy(update={"epochs": min(1, self.epochs), "bf16": bool(self.bf16)})


def learning_rate_share(step: int, steps: int) -> float:
    """The share of the peak learning rate at a step (from 0): up over a tenth of the steps, then down as a cosine."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
