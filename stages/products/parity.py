"""parity.json: how closely the exported file agrees with the torch network that was trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from paredown.stages.products.documents import LEFT_OUT, read_document, write_document
from paredown.stages.products.interval import Ends


@dataclass(frozen=True, kw_only=True)
class Parity:
    """On `images` validation images: the share with the same answer (`agreement`), and the share under which a run
    says so (`limit`; the recipe's own where it asks for one), the mean difference of a logit, and the standard
    deviation of torch's logits; where the model answers with probabilities, both are of these. `agreement_ends` are
    those of Wilson's interval of the agreement.

    `difference` is that of the logits as a share of their spread (`Answers.difference`), `rounding` the same between
    torch's answers and those that it gives when all that it rounds is hardly another number: what rounding alone makes
    of next to nothing. More than `difference_limit` is more than that.
    """

    FILE: ClassVar[str] = "parity.json"

    agreement: float
    agreement_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    mean_difference: float
    logit_spread: float | None = None
    images: int | None = None
    limit: float
    difference: float | None = field(default=None, metadata=LEFT_OUT)
    rounding: float | None = field(default=None, metadata=LEFT_OUT)
    difference_limit: float | None = field(default=None, metadata=LEFT_OUT)

    def save(self, folder: Path) -> None:
        write_document(folder / self.FILE, self, indent=2)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return read_document(cls, folder / cls.FILE)
