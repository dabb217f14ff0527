"""The trained replacements of blocks that the stage `library` left, and what each of them stands for."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from paredown.models.compression.supernet import ABSORBED, MERGED, Replacements
from paredown.models.errors import InputError
from paredown.models.network.blocks import Place
from paredown.stages.base import State
from paredown.stages.blocks.base import replacements_for
from paredown.stages.blocks.scores import Score, measure

OWN = "own"
"""The kind of a block that the network itself has there."""


Plugins = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Span:
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

    def candidates(self, plugins: Plugins, root: Path, original: nn.Module) -> dict[str, nn.Module]:
        """Fresh replacements. Two blocks need no identity, as leaving out each of them is that; but the first one
        itself may learn to do the work of both."""
        built = replacements_for(self.place, plugins, root)
        if not self.merged:
            return built
        built = {name: module for name, module in built.items() if list(module.parameters())}
        built.setdefault(OWN, copy.deepcopy(original.get_submodule(self.first.name)))
        return {MERGED + name: module for name, module in built.items()}

    def work(self, original: nn.Module) -> Score:
        """Of the blocks themselves, which make no error."""
        places = (self.first, self.last) if self.merged else (self.first,)
        scores = [measure(original.get_submodule(place.name), place, 0.0, 0) for place in places]
        macs, elements, parameters = map(sum, zip(*(score.work for score in scores), strict=True))
        return Score(0.0, macs, elements, parameters, steps=0)


def load_library(state: State) -> dict[str, Any]:
    """Block to what was tried there, under `blocks` alone and under `merged` together with the next one; see
    `Library._halve`."""
    told: dict[str, Any] = json.loads((state.product("library") / "library.json").read_text())
    return told


def load_replacements(state: State, original: nn.Module) -> Replacements:
    """The replacements that were kept, with their trained weights. Raises InputError where no library was made."""
    if "library" not in state.products:
        raise InputError("profile.transforms: substitute chooses from what the stage `library` makes; put it before")
    told, weights = load_library(state), load_file(state.product("library") / "weights.safetensors")
    found = dict[str, dict[str, nn.Module]]()
    places = {block: Place(**tried["place"]) for block, tried in told["blocks"].items()}
    for tried in (*told["blocks"].values(), *told["merged"].values()):
        span = Span(places[tried["place"]["name"]], places[tried["last"]])
        built = span.candidates(told["plugins"], state.root, original) if tried["kept"] else {}
        for name in tried["kept"]:
            found.setdefault(span.first.name, {})[name] = _with_weights(built[name], span, name, weights)
        if tried["kept"] and span.merged:
            found.setdefault(span.last.name, {})[ABSORBED] = nn.Identity()
    return found


def _with_weights(module: nn.Module, span: Span, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    start = f"{span.first.name}:{name}:"
    module.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    return module.eval()
