"""Divides labelled images into splits: stratified by class, seeded, and without leaks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from paredown.models.errors import InputError

Positions = NDArray[np.int64]
"""Indices of images, (N,)."""

SPLITS = ("train", "calibration", "validation", "test")


@dataclass(frozen=True)
class LabelledImages:
    """What is divided: `labels` (N,) are indices into `classes`, `contents` a digest of every image; complaints start
    with `where`. Of the classes those in `unseen` need no images."""

    labels: NDArray[np.int64]
    contents: Sequence[bytes]
    classes: Sequence[str]
    where: str
    unseen: Collection[str] = ()

    @property
    def present(self) -> list[tuple[int, str]]:
        """(index, name) of the classes that need images."""
        return [(index, name) for index, name in enumerate(self.classes) if name not in self.unseen]


def split_shares(total: int, weights: ArrayLike) -> NDArray[np.int64]:
    """`total` divided in proportion to `weights` into whole numbers, by largest remainder."""
    parts = np.asarray(weights, dtype=np.float64)
    exact = total * parts / parts.sum()
    counts: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    left = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return counts


def stratified(labels: NDArray[np.int64], n: int, rng: Generator) -> Positions:
    """`n` positions (all, if there are fewer), ascending, with every class in proportion."""
    if n >= len(labels):
        return np.arange(len(labels))
    kinds, sizes = np.unique(labels, return_counts=True)
    picked = [
        rng.permutation(np.flatnonzero(labels == kind))[:count]
        for kind, count in zip(kinds, split_shares(n, sizes), strict=True)
    ]
    return np.sort(np.concatenate(picked))


def assign_splits(
    parts: Mapping[str, Positions], images: LabelledImages, fractions: Mapping[str, float], rng: Generator
) -> dict[str, Positions]:
    """The positions of every split, ascending.

    `parts` are the splits that the data comes with; those that it lacks are cut from its `train`, in proportion to
    `fractions`. Equal images never get into two splits: where the data itself has one in two, it is left out of the one
    that stands first in SPLITS. Raises InputError where a class is not in every split.
    """
    splits = _without_leaks(parts, images.contents)
    wanted = {name: fractions[name] for name in SPLITS if name not in splits or name == "train"}
    splits |= _cut(splits["train"], images, wanted, rng)
    for name in SPLITS:
        for index, kind in images.present:
            if not np.any(images.labels[splits[name]] == index):
                raise InputError(f"{images.where}: class '{kind}' has no image in the split '{name}'")
    return {name: np.sort(splits[name]) for name in SPLITS}


def _without_leaks(parts: Mapping[str, Positions], contents: Sequence[bytes]) -> dict[str, Positions]:
    """The parts without the images that a later split holds too."""
    seen: set[bytes] = set()
    kept = {}
    for name in reversed(SPLITS):
        if name in parts:
            kept[name] = np.array([i for i in parts[name] if contents[i] not in seen], dtype=np.int64)
            seen |= {contents[i] for i in kept[name]}
    return kept


def _cut(
    positions: Positions, images: LabelledImages, fractions: Mapping[str, float], rng: Generator
) -> dict[str, Positions]:
    """The positions divided among the splits in `fractions`, class by class; equal images stay together."""
    equal: dict[bytes, list[int]] = {}
    for position in positions.tolist():
        equal.setdefault(images.contents[position], []).append(position)
    splits: dict[str, list[int]] = {name: [] for name in fractions}
    for index, kind in images.present:
        of_class = [group for group in equal.values() if images.labels[group[0]] == index]
        if len(of_class) < len(fractions):
            text = f"class '{kind}' has {len(of_class)} different images for {len(fractions)} splits"
            fix = "; classes that the model has and the data lacks are listed in data.classes"
            if np.any(images.labels[positions] == index):
                fix = "; images of several classes at once count for the first" if not of_class else ""
            raise InputError(f"{images.where}: {text} ({', '.join(fractions)}): each needs one{fix}")
        shuffled = [of_class[i] for i in rng.permutation(len(of_class))]
        ends = np.cumsum(_at_least_one(split_shares(len(of_class), list(fractions.values()))))
        for name, start, end in zip(fractions, [0, *ends[:-1]], ends, strict=True):
            splits[name] += [position for group in shuffled[start:end] for position in group]
    return {name: np.array(chosen, dtype=np.int64) for name, chosen in splits.items()}


def _at_least_one(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts with every zero raised to one, at the cost of the largest."""
    counts = counts.copy()
    while counts.min() < 1:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts
