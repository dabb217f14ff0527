"""sensitivity.json: the expected loss of every candidate at every site, and how well losses add up in whole plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.products.documents import read_document, write_document

Losses = dict[str, dict[str, float]]
"""Site to candidate to expected loss increase in nats."""


@dataclass(frozen=True)
class ExpectedLosses:
    """`losses` with the coefficients in them: of transforms (`coefficients`) and of sites (`factors`), fitted to so
    many `plans`; `spearman` is the rank correlation of predicted and measured losses of these, None where there is
    none."""

    FILE: ClassVar[str] = "sensitivity.json"

    losses: Losses
    coefficients: Mapping[str, float]
    factors: Mapping[str, float]
    spearman: float | None
    plans: int

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
