"""sensitivity.json: the expected loss of every candidate at every site, and how well losses add up in whole plans."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.products.documents import LEFT_OUT, read_document, write_document

Losses = dict[str, dict[str, float]]
"""Site to candidate to expected loss increase in nats."""


@dataclass(frozen=True)
class ExpectedLosses:
    """`losses` with the coefficients in them: of transforms (`coefficients`) and of sites (`factors`), fitted to so
    many `plans`; the loss of a plan is their sum to the `power`. Of these plans `spearman` is the rank correlation of
    predicted and measured losses, None where there is none, and `spread` the standard deviation of the logarithm of
    measured over predicted; none of them lost more than `most` nats. `errors` are standard errors, over images, of
    what candidates cost alone."""

    FILE: ClassVar[str] = "sensitivity.json"

    losses: Losses
    coefficients: Mapping[str, float]
    factors: Mapping[str, float]
    spearman: float | None
    plans: int
    power: float = field(default=1.0, metadata=LEFT_OUT)
    spread: float | None = field(default=None, metadata=LEFT_OUT)
    most: float | None = field(default=None, metadata=LEFT_OUT)
    errors: Losses | None = field(default=None, metadata=LEFT_OUT)

    def of_plan(self, summed: float) -> float:
        """The expected loss in nats of a plan whose picks' losses come to so much."""
        return float(max(summed, 0.0) ** self.power)

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
