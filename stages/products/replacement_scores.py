"""library.json: which replacements were tried for every block, how good they are, and which were kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.models.network.blocks import Place
from paredown.stages.products.documents import read_document, write_document


@dataclass(frozen=True)
class ReplacementScore:
    """A candidate after `steps` of training: its relative error on held-out features, and the work of one image.

    `macs` and `elements` (written by its convolutions) are in millions, `parameters` in thousands. Multiply-adds alone
    mislead, so a candidate is beaten only in all of them.
    """

    error: float
    macs: float
    elements: float
    parameters: float
    steps: int

    def beats(self, other: "ReplacementScore") -> bool:
        pairs = zip(self._merits(), other._merits(), strict=True)
        return all(mine <= theirs for mine, theirs in pairs) and self._merits() != other._merits()

    @property
    def work(self) -> tuple[float, float, float]:
        return self.macs, self.elements, self.parameters

    def _merits(self) -> tuple[float, ...]:
        return self.error, *self.work


@dataclass(frozen=True)
class TriedReplacements:
    """Where the replacements stand, from the block at `place` to the block `last`; the work of these blocks themselves
    (`keep`), the names of the replacements that were `kept`, and the scores of all that were tried."""

    place: Place
    last: str
    keep: ReplacementScore
    kept: tuple[str, ...]
    candidates: Mapping[str, ReplacementScore]


@dataclass(frozen=True)
class ReplacementScores:
    """Kinds of block with their options (`plugins`); block to what was tried for it alone (`blocks`), and for it and
    the next one together (`merged`)."""

    FILE: ClassVar[str] = "library.json"

    plugins: Mapping[str, Mapping[str, Any]]
    blocks: Mapping[str, TriedReplacements]
    merged: Mapping[str, TriedReplacements] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=1)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
