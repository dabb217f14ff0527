"""Which block became what, and why: the report's account of replaced blocks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.models.compression.supernet import ABSORBED, KEEP
from paredown.pipeline.report.svg import short
from paredown.pipeline.run.run_folder import RunFolder
from paredown.stages.analysis.plan_network import is_merged
from paredown.stages.blocks.trained_cache import kind_of

NEGLIGIBLE = 1e-4
"""Nats; a saving for less is not better for that."""


@dataclass(frozen=True)
class Offer:
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
    kept: Offer
    now: Offer
    offers: tuple[Offer, ...]
    tried: int
    before: str = ""
    """The block before, which may do this one's work too."""
    behind: str = ""
    """The next block, whose work this one may do too."""

    @property
    def why(self) -> str:
        if self.now.name == ABSORBED:
            return f"{self.before} does its work too"
        if self.now.name != KEEP:
            also = f", standing for {self.behind} too" if is_merged(self.now.name) else ""
            return f"{_saving(self.now)} for {short(self.now.loss)} nats{also}"
        cheaper = [offer for offer in self.offers if offer.saves > 0 and offer.name != ABSORBED]
        if not cheaper:
            return "nothing offered is faster"
        best = max(cheaper, key=lambda offer: offer.saves / (offer.loss + NEGLIGIBLE))
        return f"at best {best.words}: {_saving(best)} for {short(best.loss)} nats"


def replaced_blocks(run: RunFolder) -> tuple[ReplacedBlock, ...]:
    """Every block that could be replaced, in order of depth; empty where the search had no replacements."""
    library, blocks = run.document("library"), run.document("plan").get("blocks", ())
    around = [{"name": ""}, *blocks, {"name": ""}]
    return tuple(
        _became(block, before["name"], behind, library)
        for before, block, behind in zip(around[:-2], blocks, around[2:], strict=True)
    )


def _became(
    block: Mapping[str, Any], before: str, behind: Mapping[str, Any], library: Mapping[str, Any]
) -> ReplacedBlock:
    alone, both = (library.get(part, {}).get(block["name"], {}) for part in ("blocks", "merged"))
    tried = {KEEP: alone.get("keep", {}), **alone.get("candidates", {}), **both.get("candidates", {})}
    kinds = [Path(name).stem for name in library.get("plugins", ())]
    kept = _ms(block["candidates"][0])
    next_kept = _ms(behind["candidates"][0]) if behind["name"] else 0.0
    offers = tuple(
        _offer(
            offer,
            tried.get(offer["name"], {}),
            kinds,
            kept + next_kept * is_merged(offer["name"]),
            block["picked"],
        )
        for offer in block["candidates"]
    )
    now = next(offer for offer in offers if offer.picked)
    return ReplacedBlock(block["name"], offers[0], now, offers, len(tried) - 1, before, behind["name"])


def _offer(
    offer: Mapping[str, Any], score: Mapping[str, float], kinds: Sequence[str], instead_of: float, picked: str
) -> Offer:
    return Offer(
        name=offer["name"],
        kind=kind_of(offer["name"], kinds),
        ms=_ms(offer),
        loss=offer["loss"],
        error=score.get("error", 0.0),
        instead_of=instead_of,
        macs=score.get("macs"),
        parameters=score.get("parameters"),
        picked=offer["name"] == picked,
    )


def _ms(offer: Mapping[str, Any]) -> float:
    """Predicted, in int8 where the plan may use it."""
    return float(offer["ms"].get("8", offer["ms"]["32"]))


def _saving(offer: Offer) -> str:
    """`saves 0.120 ms (-40 %)`."""
    share = f"{-100 * offer.saves / offer.instead_of:+.0f} %" if offer.instead_of else "-"
    return f"{'saves' if offer.saves >= 0 else 'costs'} {abs(offer.saves):.3f} ms ({share})"


def replacement_sentence(blocks: Sequence[ReplacedBlock]) -> str:
    """The plan's blocks in one sentence."""
    replaced = [block for block in blocks if block.now.name != KEEP]
    tried = sum(block.tried for block in blocks)
    kinds = Counter(block.now.kind.replace("_", " ") for block in replaced)
    into = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    count = f"{len(replaced)} of {len(blocks)} blocks were replaced{f' ({into})' if into else ''}"
    return f"{count}; {tried} replacements were built and trained against the original's features."
