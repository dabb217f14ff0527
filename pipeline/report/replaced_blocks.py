"""Which block became what, and why: the report's account of replaced blocks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.models.compression.supernet import ABSORBED, KEEP
from paredown.pipeline.report.svg import short_number
from paredown.pipeline.run.run_folder import RunFolder
from paredown.stages.analysis.plan_network import is_merged
from paredown.stages.blocks.trained_cache import block_kind_of
from paredown.stages.products.plan import BlockCandidate, PlannedBlock
from paredown.stages.products.replacement_scores import ReplacementScore, ReplacementScores

NEGLIGIBLE = 1e-4
"""Nats; a saving for less is not better for that."""


@dataclass(frozen=True)
class BlockOffer:
    """A candidate of a block: predicted ms at whole width, predicted loss in nats, and how well it computes what it
    stands for (squared error over the variance; 0 for the block itself), which takes `instead_of` ms."""

    name: str
    kind: str
    ms: float
    loss: float
    error: float
    instead_of: float
    macs: float | None = None
    parameters: float | None = None
    picked: bool = False

    @property
    def words(self) -> str:
        return "kept" if self.name == KEEP else self.name.replace("_", " ")

    @property
    def saves(self) -> float:
        return self.instead_of - self.ms


@dataclass(frozen=True)
class ReplacedBlock:
    """A block, what stands in its place, what else was offered, and how many replacements were tried."""

    name: str
    original: BlockOffer
    replacement: BlockOffer
    offers: tuple[BlockOffer, ...]
    tried: int
    before: str = ""
    """The block before, which may do this one's work too."""
    behind: str = ""
    """The next block, whose work this one may do too."""

    @property
    def why(self) -> str:
        if self.replacement.name == ABSORBED:
            return f"{self.before} does its work too"
        if self.replacement.name != KEEP:
            also = f", standing for {self.behind} too" if is_merged(self.replacement.name) else ""
            return f"{_saving(self.replacement)} for {short_number(self.replacement.loss)} nats{also}"
        cheaper = [offer for offer in self.offers if offer.saves > 0 and offer.name != ABSORBED]
        if not cheaper:
            return "nothing offered is faster"
        best = max(cheaper, key=lambda offer: offer.saves / (offer.loss + NEGLIGIBLE))
        return f"at best {best.words}: {_saving(best)} for {short_number(best.loss)} nats"


def replaced_blocks(run: RunFolder) -> tuple[ReplacedBlock, ...]:
    """Every block that could be replaced, in order of depth; empty where the search had no replacements."""
    blocks = run.plan.blocks if run.plan else ()
    around = (None, *blocks, None)
    return tuple(
        _replaced(block, before, behind, run.library)
        for before, block, behind in zip(around[:-2], blocks, around[2:], strict=True)
    )


def _replaced(
    block: PlannedBlock, before: PlannedBlock | None, behind: PlannedBlock | None, library: ReplacementScores | None
) -> ReplacedBlock:
    scores = _scores(block.name, library)
    kinds = [Path(name).stem for name in library.plugins] if library else []
    own = _ms(block.candidates[0])
    both = own + (_ms(behind.candidates[0]) if behind else 0.0)
    offers = tuple(
        _offer(one, scores.get(one.name), kinds, both if is_merged(one.name) else own, block.picked)
        for one in block.candidates
    )
    return ReplacedBlock(
        name=block.name,
        original=offers[0],
        replacement=next(offer for offer in offers if offer.picked),
        offers=offers,
        tried=len(scores.keys() - {KEEP}),
        before=before.name if before else "",
        behind=behind.name if behind else "",
    )


def _scores(block: str, library: ReplacementScores | None) -> dict[str, ReplacementScore]:
    """Candidate to its score, of all that were tried for a block; the block itself is one of them."""
    parts = (library.blocks.get(block), library.merged.get(block)) if library else (None, None)
    tried = {name: score for part in parts if part for name, score in part.candidates.items()}
    return {KEEP: parts[0].keep, **tried} if parts[0] else tried


def _offer(
    candidate: BlockCandidate, score: ReplacementScore | None, kinds: Sequence[str], instead_of: float, picked: str
) -> BlockOffer:
    return BlockOffer(
        name=candidate.name,
        kind=block_kind_of(candidate.name, kinds),
        ms=_ms(candidate),
        loss=candidate.loss,
        error=score.error if score else 0.0,
        instead_of=instead_of,
        macs=score.macs if score else None,
        parameters=score.parameters if score else None,
        picked=candidate.name == picked,
    )


def _ms(candidate: BlockCandidate) -> float:
    """Predicted, in int8 where the plan may use it."""
    return candidate.ms["8"] if "8" in candidate.ms else candidate.ms["32"]


def _saving(offer: BlockOffer) -> str:
    """`saves 0.120 ms (-40 %)`."""
    share = f"{-100 * offer.saves / offer.instead_of:+.0f} %" if offer.instead_of else "-"
    return f"{'saves' if offer.saves >= 0 else 'costs'} {abs(offer.saves):.3f} ms ({share})"


def replacement_sentence(blocks: Sequence[ReplacedBlock]) -> str:
    """The plan's blocks in one sentence."""
    replaced = [block for block in blocks if block.replacement.name != KEEP]
    tried = sum(block.tried for block in blocks)
    kinds = Counter(block.replacement.kind.replace("_", " ") for block in replaced)
    into = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    count = f"{len(replaced)} of {len(blocks)} blocks were replaced{f' ({into})' if into else ''}"
    return f"{count}; {tried} replacements were built and trained against the original's features."
