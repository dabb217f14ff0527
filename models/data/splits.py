"""Divides labelled images into splits: stratified by class, seeded, and without leaks."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from paredown.models.errors import InputError

Positions = NDArray[np.int64]

SPLITS = ("train", "calibration", "validation", "test")


def shares(total: int, weights: ArrayLike) -> NDArray[np.int64]:
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
        for kind, count in zip(kinds, shares(n, sizes), strict=True)
    ]
    return np.sort(np.concatenate(picked))


def assign(
    parts: Mapping[str, Positions],
    labels: NDArray[np.int64],
    contents: Sequence[bytes],
    fractions: Mapping[str, float],
    rng: Generator,
    classes: Sequence[str],
    where: str,
) -> dict[str, Positions]:
    """The positions of every split, ascending.

    `parts` are the splits that the data comes with; those that it lacks are cut from its `train`, in
    proportion to `fractions`. `contents` are digests: equal images never get into two splits. Where
    the data itself has one in two splits, it is left out of the one that stands first in SPLITS. Raises
    InputError where a class is not in every split.
    """
    found = _without_leaks(parts, contents)
    wanted = {name: fractions[name] for name in SPLITS if name not in found or name == "train"}
    found |= _cut(found["train"], labels, contents, wanted, rng, classes, where)
    for name in SPLITS:
        for index, kind in enumerate(classes):
            if not np.any(labels[found[name]] == index):
                raise InputError(f"{where}: class '{kind}' has no image in the split '{name}'")
    return {name: np.sort(found[name]) for name in SPLITS}


def _without_leaks(parts: Mapping[str, Positions], contents: Sequence[bytes]) -> dict[str, Positions]:
    seen: set[bytes] = set()
    found = {}
    for name in reversed(SPLITS):
        if name in parts:
            found[name] = np.array([i for i in parts[name] if contents[i] not in seen], dtype=np.int64)
            seen |= {contents[i] for i in found[name]}
    return found


def _cut(
    pool: Positions,
    labels: NDArray[np.int64],
    contents: Sequence[bytes],
    fractions: Mapping[str, float],
    rng: Generator,
    classes: Sequence[str],
    where: str,
) -> dict[str, Positions]:
    groups: dict[bytes, list[int]] = {}
    for position in pool.tolist():
        groups.setdefault(contents[position], []).append(position)
    found: dict[str, list[int]] = {name: [] for name in fractions}
    for index, kind in enumerate(classes):
        mine = [group for group in groups.values() if labels[group[0]] == index]
        if len(mine) < len(fractions):
            text = f"class '{kind}' has {len(mine)} different images for {len(fractions)} splits"
            raise InputError(f"{where}: {text} ({', '.join(fractions)}): each needs one")
        shuffled = [mine[i] for i in rng.permutation(len(mine))]
        ends = np.cumsum(_at_least_one(shares(len(mine), list(fractions.values()))))
        for name, start, end in zip(fractions, [0, *ends[:-1]], ends, strict=True):
            found[name] += [position for group in shuffled[start:end] for position in group]
    return {name: np.array(positions, dtype=np.int64) for name, positions in found.items()}


def _at_least_one(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = counts.copy()
    while counts.min() < 1:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts
