"""The trained replacements of blocks that the stage `library` left, and what each of them stands for."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from paredown.models.compression.supernet import ABSORBED, MERGED, Replacements
from paredown.models.errors import InputError
from paredown.models.loading.tensors import load_tensors
from paredown.models.network.blocks import Place
from paredown.stages.base import State
from paredown.stages.blocks.base import replacements_for
from paredown.stages.blocks.scores import measure_work
from paredown.stages.products.replacement_scores import ReplacementScore, ReplacementScores

OWN = "own"
"""The kind of a block that the network itself has there."""


BlockOptions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ReplacedSpan:
    """What a replacement stands for: one block, or a block and the next one."""

    first: Place
    last: Place

    @property
    def merged(self) -> bool:
        return self.first != self.last

    @property
    def place(self) -> Place:
        """Where the replacement stands, and what it must make there."""
        return replace(self.first, shape_out=self.last.shape_out, closing=self.last.closing)

    def candidates(self, plugins: BlockOptions, root: Path, original: nn.Module) -> dict[str, nn.Module]:
        """Fresh replacements. Two blocks need no identity, as leaving out each of them is that; but the first one
        itself may learn to do the work of both."""
        built = replacements_for(self.place, plugins, root)
        if not self.merged:
            return built
        built = {name: module for name, module in built.items() if list(module.parameters())}
        built.setdefault(OWN, copy.deepcopy(original.get_submodule(self.first.name)))
        return {MERGED + name: module for name, module in built.items()}

    def work(self, original: nn.Module) -> ReplacementScore:
        """The score of the blocks themselves: no error, and the work of all of them."""
        places = (self.first, self.last) if self.merged else (self.first,)
        scores = [measure_work(original.get_submodule(place.name), place, 0.0, 0) for place in places]
        macs, elements, parameters = map(sum, zip(*(score.work for score in scores), strict=True))
        return ReplacementScore(0.0, macs, elements, parameters, steps=0)


def load_replacements(state: State, original: nn.Module) -> Replacements:
    """The replacements that were kept, with their trained weights. Raises InputError where no library was made."""
    if "library" not in state.products:
        raise InputError("profile.transforms: substitute chooses from what the stage `library` makes; put it before")
    folder = state.product("library")
    library, weights = ReplacementScores.load(folder), load_file(folder / "weights.safetensors")
    replacements = dict[str, dict[str, nn.Module]]()
    places = {block: tried.place for block, tried in library.blocks.items()}
    for tried in (*library.blocks.values(), *library.merged.values()):
        span = ReplacedSpan(places[tried.place.name], places[tried.last])
        built = span.candidates(library.plugins, state.root, original) if tried.kept else {}
        for name in tried.kept:
            replacements.setdefault(span.first.name, {})[name] = _with_weights(built[name], span, name, weights)
        if tried.kept and span.merged:
            replacements.setdefault(span.last.name, {})[ABSORBED] = nn.Identity()
    return replacements


def _with_weights(module: nn.Module, span: ReplacedSpan, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    start = f"{span.first.name}:{name}:"
    load_tensors(module, {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    return module.eval()
