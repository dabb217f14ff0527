"""Images that are there more than once: in two splits, which is a leak, or in two classes, of which one is wrong."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.splits import SPLITS, Positions
from paredown.models.files import read_json, write_whole

FILE = "equal-images.json"
_LONGEST = 2**20


@dataclass(frozen=True)
class EqualImages:
    """`images` of one kind that have an equal one of the other, and one such pair, as positions in the source.

    `kinds` are two splits, the first of which loses the images; or empty, where the two have different classes.
    """

    kinds: tuple[str, ...]
    images: int
    pair: tuple[int, int]


def find_equal(
    parts: Mapping[str, Positions], labels: NDArray[np.int64], contents: Sequence[bytes]
) -> Iterator[EqualImages]:
    """The leaks between the splits that the data comes with, and the images of two classes.

    `labels` (N,) and `contents`, a digest of each image, belong to all positions in `parts`.
    """
    first: dict[bytes, dict[str, int]] = {}
    leaks: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for split in (name for name in reversed(SPLITS) if name in parts):
        for position in parts[split].tolist():
            seen = first.setdefault(contents[position], {})
            if other := next((name for name in seen if name != split), None):
                leaks.setdefault((split, other), []).append((position, seen[other]))
            else:
                seen.setdefault(split, position)
    yield from (EqualImages(kinds, len(pairs), pairs[0]) for kinds, pairs in leaks.items())
    yield from _of_two_classes(parts, labels, contents)


def _of_two_classes(
    parts: Mapping[str, Positions], labels: NDArray[np.int64], contents: Sequence[bytes]
) -> Iterator[EqualImages]:
    first: dict[bytes, int] = {}
    pairs: dict[bytes, tuple[int, int]] = {}
    for position in (int(i) for positions in parts.values() for i in positions):
        other = first.setdefault(contents[position], position)
        if labels[other] != labels[position]:
            pairs.setdefault(contents[position], (other, position))
    if pairs:
        yield EqualImages((), len(pairs), next(iter(pairs.values())))


def save_equal(found: Sequence[EqualImages], chosen: Positions, folder: Path) -> None:
    """Writes what was found beside decoded images; `chosen` are their positions in the source."""
    kept = [asdict(one) | {"pair": [int(chosen[i]) for i in one.pair]} for one in found]
    write_whole(folder / FILE, json.dumps(kept))


def load_equal(folder: Path) -> tuple[EqualImages, ...]:
    """What `save_equal` wrote; nothing where an earlier version decoded the images."""
    if not (folder / FILE).is_file():
        return ()
    entries: list[dict[str, Any]] = read_json(folder / FILE, _LONGEST)
    return tuple(EqualImages(tuple(one["kinds"]), one["images"], (one["pair"][0], one["pair"][1])) for one in entries)


def equal_note(found: EqualImages, name: Callable[[int], str]) -> str:
    """What a person should know of them; `name` says which image stands at a position."""
    pair = f"{name(found.pair[0])} and {name(found.pair[1])}"
    if not found.kinds:
        return f"{_images(found.images)} in two classes at once, such as {pair}: one of the labels is wrong"
    lost, kept = found.kinds
    return f"{_images(found.images)} of {lost} in {kept} as well, such as {pair}; left out of {lost}"


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
