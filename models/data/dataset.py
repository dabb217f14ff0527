"""Labelled images in four splits, and the batches that networks read and are trained on."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.augment import augment_batch
from paredown.models.data.image_facts import ImageFacts
from paredown.models.data.spec import Augment
from paredown.models.data.splits import SPLITS, stratified

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """`images` (N, H, W, 3) uint8, perhaps a read-only file mapping, and `labels` (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """sha256 over the pixels, as they were decoded, and the labels."""
        total = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self), 256):  # a mapped file is not read into memory as a whole
            total.update(self.images[start : start + 256].tobytes())
        total.update(self.labels.tobytes())
        return total.hexdigest()

    def take(self, n: int, seed: int) -> "Split":
        """`n` images (all, if there are fewer) in the same order, with every class in proportion."""
        picked = stratified(self.labels, n, np.random.default_rng(seed))
        return self._at(picked)

    def within(self, first: int, n: int, seed: int) -> "Split":
        """`n` images (all, if there are fewer) of those that `take(first, seed)` takes, every class in proportion. What
        `take(n, seed)` takes need not be among them."""
        return self._some(stratified(self.labels, first, np.random.default_rng(seed)), n, seed)

    def beyond(self, first: int, n: int, seed: int) -> "Split":
        """The same of those that `take(first, seed)` leaves."""
        taken = stratified(self.labels, first, np.random.default_rng(seed))
        return self._some(np.setdiff1d(np.arange(len(self)), taken), n, seed)

    def _some(self, positions: NDArray[np.int64], n: int, seed: int) -> "Split":
        return self._at(positions[stratified(self.labels[positions], n, np.random.default_rng(seed))])

    def _at(self, picked: NDArray[np.int64]) -> "Split":
        return Split(np.asarray(self.images[picked]), self.labels[picked])


@dataclass(frozen=True)
class ImageData:
    """The four splits, and how the model wants its images: normalised by `mean` and `std` per channel.

    `dropped` images were left out because another split holds the same one. `fingerprint` covers the
    contents, the spec and the seed. `facts` say what was decoded; None where an earlier version did it. `origins` says
    of every split that the data comes with what it is there; `notes` are lines that a person should read: what was left
    out, leaks, labels that contradict each other.
    """

    train: Split
    calibration: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    fingerprint: str
    augment: Augment = "none"
    dropped: int = 0
    facts: ImageFacts | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Split]:
        """The four splits by their names."""
        return dict(zip(SPLITS, (self.train, self.calibration, self.validation, self.test), strict=True))

    def take(self, n: int, seed: int) -> "ImageData":
        """At most `n` images of every split, as `Split.take` takes them; under a fingerprint of their own."""
        train, calibration, validation, test = (split.take(n, seed) for split in self.splits.values())
        few = replace(self, train=train, calibration=calibration, validation=validation, test=test)
        return replace(few, fingerprint=f"{self.fingerprint}-{n}")

    def normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) pixels as the model's input (N, 3, H, W)."""
        return self._scale(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), (3, 1, 1))

    def batches(self, split: Split, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """All images of a split in order, as (normalised images, labels); the last batch may be smaller."""
        for start in range(0, len(split), size):
            yield self.normalise(split.images[start : start + size]), split.labels[start : start + size]

    def training_batches(
        self, size: int, epoch: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> "Iterator[tuple[Tensor, Tensor, Tensor]]":
        """One epoch of (images (N, 3, H, W) in channels_last memory, labels, positions in `train`).

        Shuffled and augmented; the same arguments give the same batches. Each of the `ranks` gets its own
        equal share. The last batch of a share is left out if it is not full, unless it is the only one.
        """
        import torch

        order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
        share = order[rank::ranks][: len(order) // ranks]
        for start in range(0, max(len(share) - size, 0) + 1, size):
            picked = share[start : start + size]
            rng = np.random.default_rng([seed, epoch, rank, ranks, start])
            images = self._scale(augment_batch(np.asarray(self.train.images[picked]), self.augment, rng), (3,))
            labels = torch.from_numpy(self.train.labels[picked])
            yield torch.from_numpy(images).permute(0, 3, 1, 2), labels, torch.from_numpy(picked)

    def _scale(self, images: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """`shape` is where the channels stand, for broadcasting."""
        std = np.array(self.std)
        factor = (1 / (255 * std)).astype(np.float32).reshape(shape)
        scaled: NDArray[np.float32] = np.multiply(images, factor, dtype=np.float32)
        scaled -= (np.array(self.mean) / std).astype(np.float32).reshape(shape)
        return scaled
