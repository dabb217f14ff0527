"""Replacements for every block, each trained alone to compute what the block computes; the best are left to choose."""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paredown.models.blocks import Place, find_blocks
from paredown.models.data import Data, open_data
from paredown.models.files import digest_file
from paredown.models.graph import Network, analyse
from paredown.models.spec import InputError, Spec
from paredown.models.supernet import Replacements
from paredown.stages.base import State
from paredown.stages.blocks.base import check_user_blocks, replacements_for
from paredown.stages.blockwise import Features, fit_last, learn, record, relative_error
from paredown.stages.discovery import source
from paredown.stages.halving import Score, measure, survivors
from paredown.stages.original import teacher
from paredown.stages.training import home

FORMAT = 2
"""Changes whenever the same candidate would be trained to other weights."""

Plugins = Mapping[str, Mapping[str, Any]]


class Library(Spec):
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
    images: int = Field(512, ge=16, description="augmented training images whose features the replacements learn from")
    steps: int = Field(160, ge=0, description="training steps, of 32 images, of those that are kept")
    lr: float = Field(3e-3, gt=0, description="peak learning rate of that training")

    def check(self, network: Network, root: Path) -> str:
        """Builds every replacement once; raises InputError for those that cannot stand in for their block."""
        places = self._places(network)
        count = sum(len(replacements_for(place, self.named(), root)) for place in places)
        check_user_blocks(places, self.named(), root)
        return f"{len(places)} blocks, {count} replacements to try"

    def run(self, state: State) -> None:
        data = open_data(state.data, state.root, state.cache, state.seed, state.progress)
        original, size = teacher(state, data), state.data.image_size
        places = self._places(analyse(original, (3, size, size)))
        check_user_blocks(places, self.named(), state.root)
        original.to(home())
        shelf = Shelf(state.cache / "replacements", self._origin(original, data, state), self._sources(state.root))
        found, kept = dict[str, Any](), dict[str, Tensor]()
        for index, place in enumerate(places):
            state.progress(f"library: {place.name}", index, len(places))
            features = record(original, place.name, self._images(data, state))
            candidates = replacements_for(place, self.named(), state.root)
            kept_as_is = measure(original.get_submodule(place.name), place, 0.0, 0)
            tried = self._halve(place, candidates, features, shelf, kept_as_is)
            found[place.name] = {"place": asdict(place), "keep": asdict(kept_as_is), **tried}
            for name in found[place.name]["kept"]:
                state_dict = candidates[name].cpu().state_dict()
                kept |= {f"{place.name}:{name}:{k}": v.contiguous() for k, v in state_dict.items()}
        save_file(kept, state.out / "weights.safetensors")
        listed = {"plugins": self.named(), "blocks": found}
        (state.out / "library.json").write_text(json.dumps(listed, indent=1) + "\n")

    def _places(self, network: Network) -> tuple[Place, ...]:
        places = find_blocks(network)
        if not places:
            raise InputError("library: the model has no block that could be replaced: no module of two convolutions")
        return places

    def named(self) -> dict[str, dict[str, Any]]:
        return dict(self.blocks) if isinstance(self.blocks, dict) else {name: {} for name in self.blocks}

    def _images(self, data: Data, state: State) -> list[Tensor]:
        epochs = (
            images for epoch in itertools.count() for images, _, _ in data.training_batches(32, epoch, state.seed)
        )
        return list(itertools.islice(epochs, -(-self.images // 32)))

    def _origin(self, original: nn.Module, data: Data, state: State) -> str:
        """What a trained replacement depends on beside itself."""
        return f"{FORMAT} {data.fingerprint} {self.images} {self.lr} {state.seed} {_digest(original)}"

    def _sources(self, root: Path) -> dict[str, str]:
        """Digest of the file behind every kind of block, by the start of its candidates' names."""
        files = {Path(name).stem: source("blocks", name, root) for name in self.named()}
        return {stem: digest_file(file) for stem, file in files.items()}

    def _halve(
        self,
        place: Place,
        candidates: Mapping[str, nn.Module],
        features: Features,
        shelf: "Shelf",
        whole: Score,
    ) -> dict[str, Any]:
        """Rounds of ever longer training, from which fewer and fewer candidates come out.

        What does more work than the `whole` block is out before any training.
        """
        learnt, judged = features.split()
        scores = {name: measure(module, place, 0.0, 0) for name, module in candidates.items()}
        left = [name for name, score in scores.items() if not whole.beats(score)]
        scores, taken = {name: scores[name] for name in left}, list[int]()
        fresh = {name: _digest(candidates[name]) for name in left}
        for steps, most in ((0, 2 * self.keep), (self.steps // 4, self.keep), (self.steps, self.keep)):
            taken.append(steps)
            for name in left:
                module, key = candidates[name].to(home()), shelf.key(place, name, fresh[name], taken)
                error = shelf.trained(key, module, lambda m, n=steps: self._train(m, n, learnt, judged))
                scores[name] = replace(scores[name], error=error, steps=steps)
            left = survivors({name: scores[name] for name in left}, most)
        return {"candidates": {name: asdict(score) for name, score in scores.items()}, "kept": left}

    def _train(self, module: nn.Module, steps: int, learnt: Features, judged: Features) -> float:
        if steps == 0:
            fit_last(module, learnt)
        learn(module, learnt, steps, self.lr, seed=steps)
        return relative_error(module, judged)


@dataclass(frozen=True)
class Shelf:
    """Trained candidates by content, shared by all runs: adding one candidate trains one candidate.

    `origin` stands for the original, the images and the options; `sources` are digests of the kinds' own files.
    """

    folder: Path
    origin: str
    sources: Mapping[str, str]

    def trained(self, key: str, module: nn.Module, train: Any) -> float:
        """Loads the weights that a candidate had under this key, or trains it and stores it; its error."""
        path = self.folder / f"{key}.safetensors"
        error = _load(module, path)
        if error is None:
            error = float(train(module))
            _store(module, error, path)
        return error

    def key(self, place: Place, name: str, fresh: str, taken: Sequence[int]) -> str:
        """All that decides the weights: also those it started with, and the steps of every round so far."""
        kind = max((stem for stem in self.sources if name.startswith(stem)), key=len)
        told = f"{self.origin} {place} {name} {self.sources[kind]} {fresh} {list(taken)}"
        return hashlib.sha256(told.encode()).hexdigest()


def _digest(module: nn.Module) -> str:
    """Of what a module is and of all its values."""
    total = hashlib.sha256(str(module).encode())
    for name, value in module.state_dict().items():
        total.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _load(module: nn.Module, path: Path) -> float | None:
    """The error that the stored candidate had; None where it is not there or damaged."""
    try:
        with safe_open(path, "pt") as stored:
            error = float(stored.metadata()["error"])
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError):
        return None
    return error


def _store(module: nn.Module, error: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    weights = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(weights, fresh, metadata={"error": repr(error)})
    fresh.replace(path)


def load_library(state: State) -> dict[str, Any]:
    """Block to what was tried there, see `Library._halve`."""
    text = (state.product("library") / "library.json").read_text()
    blocks: dict[str, Any] = json.loads(text)["blocks"]
    return blocks


def load_replacements(state: State) -> Replacements:
    """The replacements that were kept, with their trained weights. Raises InputError where no library was made."""
    if "library" not in state.products:
        raise InputError("profile.transforms: substitute chooses from what the stage `library` makes; put it before")
    folder = state.product("library")
    plugins: Plugins = json.loads((folder / "library.json").read_text())["plugins"]
    weights = load_file(folder / "weights.safetensors")
    return {
        block: _rebuilt(Place(**tried["place"]), tried["kept"], plugins, weights, state.root)
        for block, tried in load_library(state).items()
        if tried["kept"]
    }


def _rebuilt(
    place: Place, kept: Sequence[str], plugins: Plugins, weights: Mapping[str, Tensor], root: Path
) -> dict[str, nn.Module]:
    built = replacements_for(place, plugins, root)
    for name in kept:
        start = f"{place.name}:{name}:"
        built[name].load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    return {name: built[name].eval() for name in kept}


PLUGIN = Library
