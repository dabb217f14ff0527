"""Replacements for every block, each trained alone to compute what the block computes; the best are left to choose."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError
from paredown.models.files import digest_file
from paredown.models.network.blocks import find_blocks, neighbours
from paredown.models.network.trace import Network, analyse_network
from paredown.stages.analysis.replacements import ReplacedSpan
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import Stage, State
from paredown.stages.blocks.base import check_user_blocks
from paredown.stages.blocks.scores import measure_work, surviving_names
from paredown.stages.blocks.trained_cache import TrainedCache, digest_module
from paredown.stages.plugins import plugin_file
from paredown.stages.products.replacement_scores import ReplacementScore, ReplacementScores, TriedReplacements
from paredown.stages.training.blockwise import (
    BlockFeatures,
    fit_last_layer,
    record_features,
    relative_error,
    train_replacement,
)
from paredown.stages.training.device import training_device
from paredown.stages.training.parallel import side_by_side, workers_for

FORMAT = 3
"""Changes whenever the same candidate would be trained to other weights."""

MEMORY = 4096
"""MiB of features, of all blocks that are trained side by side."""


class Library(Stage):
    """Offers blocks for blocks: least squares first, then successive halving on the error of a growing training."""

    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ("original",)
    gives: ClassVar[str] = "library"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "seed")

    blocks: dict[str, dict[str, Any]] | tuple[str, ...] = Field(
        (
            "inverted_residual",
            "fused_inverted_residual",
            "basic",
            "bottleneck",
            "depthwise_separable",
            "identity",
        ),
        description="kinds of block to try: names, or names with their options",
    )
    keep: int = Field(4, ge=1, description="replacements per block that the search may choose from")
    merge: int = Field(1, ge=0, description="the same per pair of neighbouring blocks that one may stand for; 0: none")
    images: int = Field(512, ge=16, description="augmented training images whose features the replacements learn from")
    steps: int = Field(160, ge=0, description="training steps, of 32 images, of those that are kept")
    lr: float = Field(3e-3, gt=0, description="peak learning rate of that training")

    def check(self, network: Network, root: Path) -> str:
        """Builds every replacement once; raises InputError for those that cannot stand in for their block."""
        spans = self._spans(network)
        places = tuple(span.first for span in spans if not span.merged)
        count = sum(len(span.candidates(self.named(), root, network.module)) for span in spans)
        check_user_blocks(places, self.named(), root)
        return f"{len(places)} blocks, {count} replacements to try"

    def run(self, state: State) -> None:
        self._train_all(state)

    def rehearse(self, state: State) -> bool:
        brief = self.model_copy(update={"images": 16, "steps": 1, "keep": 1, "merge": min(1, self.merge)})
        brief._train_all(state, one_each=True)
        return True

    def _train_all(self, state: State, one_each: bool = False) -> None:
        """Trains the replacements of every block; with `one_each` a single one per block, of another kind in turn."""
        data = state.open_data()
        original = load_teacher(state, data)
        spans = self._spans(analyse_network(original, state.image_shape))
        check_user_blocks(tuple(span.first for span in spans), self.named(), state.root)
        original.to(training_device())
        origin, sources = self._origin(original, data, state), self._sources(state.root)
        cache = TrainedCache((state.out if one_each else state.cache) / "replacements", origin, sources)
        images, one_at_a_time = self._images(data, state), Lock()

        def learnt(span: ReplacedSpan) -> tuple[TriedReplacements, dict[str, Tensor]]:
            with one_at_a_time:  # The original has one set of hooks, and torch one generator.
                candidates, whole = span.candidates(self.named(), state.root, original), span.work(original)
                features = record_features(original, span.first.name, span.last.name, images)
            untrained = _worth_training(span, candidates, whole)
            if one_each and untrained:
                name = list(untrained)[spans.index(span) * len(untrained) // len(spans)]
                untrained = {name: untrained[name]}
            tried = self._halve(span, candidates, features, cache, whole, untrained)
            return tried, _weights(span, candidates, tried.kept)

        alone, merged = dict[str, TriedReplacements](), dict[str, TriedReplacements]()
        kept = dict[str, Tensor]()
        results = side_by_side(learnt, spans, min(workers_for(training_device()), self._spans_in_memory(spans)))
        for index, (span, (tried, weights)) in enumerate(zip(spans, results, strict=True)):
            state.progress(f"library: {span.first.name}", index + 1, len(spans))
            (merged if span.merged else alone)[span.first.name] = tried
            kept |= weights
        save_file(kept, state.out / "weights.safetensors")
        ReplacementScores(self.named(), alone, merged).save(state.out)

    def _spans(self, network: Network) -> tuple[ReplacedSpan, ...]:
        """Every block, then the neighbours that can be merged."""
        places = find_blocks(network)
        if not places:
            raise InputError("library: the model has no block that could be replaced: no module of two convolutions")
        pairs = neighbours(network, places) if self.merge else ()
        return tuple(ReplacedSpan(*pair) for pair in (*((place, place) for place in places), *pairs))

    def _spans_in_memory(self, spans: Sequence[ReplacedSpan]) -> int:
        """How many spans' features may lie in memory at once."""
        places = [span.place for span in spans]
        largest = max(math.prod(place.shape_in) + math.prod(place.shape_out) for place in places)
        return max(1, int(MEMORY // (4 * self.images * largest / 2**20)))

    def named(self) -> dict[str, Mapping[str, Any]]:
        """The kinds of block with their options."""
        return dict(self.named_plugins().get("blocks", {}))

    def _images(self, data: ImageData, state: State) -> list[Tensor]:
        epochs = (
            images for epoch in itertools.count() for images, _, _ in data.training_batches(32, epoch, state.seed)
        )
        return list(itertools.islice(epochs, -(-self.images // 32)))

    def _origin(self, original: nn.Module, data: ImageData, state: State) -> str:
        """What a trained replacement's weights depend on beside itself and its place, as one line."""
        return f"{FORMAT} {data.fingerprint} {self.images} {self.lr} {state.seed} {digest_module(original)}"

    def _sources(self, root: Path) -> dict[str, str]:
        """Digest of the file behind every kind of block, by the start of its candidates' names."""
        files = {Path(name).stem: plugin_file("blocks", name, root) for name in self.named()}
        return {stem: digest_file(file) for stem, file in files.items()}

    def _halve(
        self,
        span: ReplacedSpan,
        candidates: Mapping[str, nn.Module],
        features: BlockFeatures,
        cache: TrainedCache,
        whole: ReplacementScore,
        untrained: Mapping[str, ReplacementScore],
    ) -> TriedReplacements:
        """Rounds of ever longer training of the `untrained`, from which fewer and fewer candidates come out."""
        training, held_out = features.split()
        scores = dict(untrained)
        fresh = {name: digest_module(candidates[name]) for name in scores}
        left, steps_so_far = list(scores), list[int]()
        for steps, survivors_left in self._rounds(span):
            steps_so_far.append(steps)
            for name in left:
                module = candidates[name].to(training_device())
                key = cache.key(span.place, name, fresh[name], steps_so_far)
                error = cache.trained(key, module, partial(self._train, steps, training, held_out))
                scores[name] = replace(scores[name], error=error, steps=steps)
            left = surviving_names({name: scores[name] for name in left}, survivors_left)
        return TriedReplacements(span.place, span.last.name, whole, tuple(left), scores)

    def _rounds(self, span: ReplacedSpan) -> tuple[tuple[int, int], ...]:
        """(training steps, candidates that survive) of every round."""
        last = self.merge if span.merged else self.keep
        return (0, 2 * self.keep), (self.steps // 4, self.keep), (self.steps, last)

    def _train(self, steps: int, training: BlockFeatures, held_out: BlockFeatures, module: nn.Module) -> float:
        """Trains a candidate for so many steps; its relative error on features that it did not see."""
        if steps == 0:
            fit_last_layer(module, training)
        train_replacement(module, training, steps, self.lr, seed=steps)
        return relative_error(module, held_out)


def _worth_training(
    span: ReplacedSpan, candidates: Mapping[str, nn.Module], whole: ReplacementScore
) -> dict[str, ReplacementScore]:
    """The candidates with their work, untrained; without those that do more work than the blocks themselves."""
    scores = {name: measure_work(module, span.place, 0.0, 0) for name, module in candidates.items()}
    return {name: score for name, score in scores.items() if not whole.beats(score)}


def _weights(span: ReplacedSpan, candidates: Mapping[str, nn.Module], kept: Sequence[str]) -> dict[str, Tensor]:
    """`block:candidate:parameter` to the weights of the candidates that were kept."""
    states = {name: candidates[name].cpu().state_dict() for name in kept}
    return {f"{span.first.name}:{n}:{key}": v.contiguous() for n, state in states.items() for key, v in state.items()}


PLUGIN = Library
