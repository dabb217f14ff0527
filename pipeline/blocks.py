"""Which block became what, and why: the report's account of replaced blocks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.models.supernet import KEEP
from paredown.pipeline.products import Run
from paredown.pipeline.svg import short

NEGLIGIBLE = 1e-4
"""Nats; a saving for less is not better for that."""


@dataclass(frozen=True)
class Offer:
    """A candidate of a block: predicted ms at whole width, predicted loss in nats, and how well it computes what the
    block computes (squared error over the variance; 0 for the block itself)."""

    name: str
    kind: str
    ms: float
    loss: float
    error: float
    macs: float | None = None
    parameters: float | None = None
    picked: bool = False

    @property
    def words(self) -> str:
        return "kept" if self.name == KEEP else self.name.replace("_", " ")


@dataclass(frozen=True)
class Became:
    """A block, what stands in its place, what else was offered, and how many replacements were tried."""

    name: str
    kept: Offer
    now: Offer
    offers: tuple[Offer, ...]
    tried: int

    @property
    def why(self) -> str:
        if self.now.name != KEEP:
            return f"{_saving(self.now, self.kept)} for {short(self.now.loss)} nats"
        cheaper = [offer for offer in self.offers if offer.ms < self.kept.ms]
        if not cheaper:
            return "nothing offered is faster"
        best = max(cheaper, key=lambda offer: (self.kept.ms - offer.ms) / (offer.loss + NEGLIGIBLE))
        return f"at best {best.words}: {_saving(best, self.kept)} for {short(best.loss)} nats"


def became(run: Run) -> tuple[Became, ...]:
    """Every block that could be replaced, in order of depth; empty where the search had no replacements."""
    library = run.document("library")
    kinds = [Path(name).stem for name in library.get("plugins", ())]
    tried = library.get("blocks", {})
    return tuple(_became(b, tried.get(b["name"], {}), kinds) for b in run.document("plan").get("blocks", ()))


def _became(block: Mapping[str, Any], library: Mapping[str, Any], kinds: Sequence[str]) -> Became:
    offers = tuple(_offers(block, library, kinds))
    now = next(offer for offer in offers if offer.picked)
    return Became(block["name"], offers[0], now, offers, len(library.get("candidates", ())))


def _offers(block: Mapping[str, Any], library: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[Offer]:
    for told in block["candidates"]:
        name = told["name"]
        score = library.get("keep", {}) if name == KEEP else library.get("candidates", {}).get(name, {})
        yield Offer(
            name=name,
            kind=max((kind for kind in kinds if name.startswith(kind)), key=len, default=name),
            ms=told["ms"].get("8", told["ms"]["32"]),
            loss=told["loss"],
            error=score.get("error", 0.0),
            macs=score.get("macs"),
            parameters=score.get("parameters"),
            picked=name == block["picked"],
        )


def _saving(offer: Offer, kept: Offer) -> str:
    """`saves 0.120 ms (-40 %)`."""
    difference = offer.ms - kept.ms
    share = f"{100 * difference / kept.ms:+.0f} %" if kept.ms else "-"
    return f"{'saves' if difference <= 0 else 'costs'} {abs(difference):.3f} ms ({share})"


def told(blocks: Sequence[Became]) -> str:
    """The plan's blocks in one sentence."""
    replaced = [block for block in blocks if block.now.name != KEEP]
    tried = sum(block.tried for block in blocks)
    kinds = Counter(block.now.kind.replace("_", " ") for block in replaced)
    into = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    count = f"{len(replaced)} of {len(blocks)} blocks were replaced{f' ({into})' if into else ''}"
    return f"{count}; {tried} replacements were built and trained against the original's features."
