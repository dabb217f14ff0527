"""Trained replacements, kept by all that decides their weights."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from paredown.models.compression.supernet import MERGED
from paredown.models.loading.tensors import load_tensors
from paredown.models.network.blocks import Place


@dataclass(frozen=True)
class TrainedCache:
    """Trained candidates by content, shared by all runs: adding one candidate trains one candidate.

    `origin` stands for the original, the images and the options; `sources` are digests of the kinds' own files.
    """

    folder: Path
    origin: str
    sources: Mapping[str, str]

    def trained(self, key: str, module: nn.Module, train: Callable[[nn.Module], float]) -> float:
        """Loads the weights that a candidate had under this key, or trains it and stores it; its error."""
        path = self.folder / f"{key}.safetensors"
        error = _load(module, path)
        if error is None:
            error = train(module)
            _store(module, error, path)
        return error

    def key(self, place: Place, name: str, fresh: str, taken: Sequence[int]) -> str:
        """All that decides the weights: also those it started with, and the steps of every round so far."""
        source = self.sources.get(block_kind_of(name, self.sources), "")
        decided_by = f"{self.origin} {place} {name} {source} {fresh} {list(taken)}"
        return hashlib.sha256(decided_by.encode()).hexdigest()


def block_kind_of(candidate: str, kinds: Collection[str]) -> str:
    """The kind of block that a candidate's name starts with; the name itself where that is none."""
    name = candidate.removeprefix(MERGED)
    return max((kind for kind in kinds if name.startswith(kind)), key=len, default=name)


def digest_module(module: nn.Module) -> str:
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
        load_tensors(module, load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError):
        return None
    return error


def _store(module: nn.Module, error: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    weights = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(weights, fresh, metadata={"error": repr(error)})
    fresh.replace(path)
