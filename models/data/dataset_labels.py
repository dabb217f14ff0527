"""What torch datasets say of their classes: labels as whole numbers, and names that several datasets share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paredown.models.errors import InputError


def whole_label(label: Any) -> int:
    """A label as a number. Raises ValueError for one that is no whole number, such as 1.7, text or a one-hot vector."""
    allowed = "allowed: a whole number from 0 on, the position of the class"
    if isinstance(label, str | bytes):
        raise ValueError(f"the label {label!r} is text; {allowed}")
    value = np.asarray(label)
    if value.size != 1:
        raise ValueError(f"the label has the shape {value.shape}, as one-hot and multi-label ones have; {allowed}")
    if value.dtype.kind not in "biuf":
        raise ValueError(f"the label {label!r} is {type(label).__name__}; {allowed}")
    number = value.item()
    if not np.isfinite(number) or number != int(number) or number < 0:
        raise ValueError(f"the label {number:g} is no whole number from 0 on; {allowed}")
    return int(number)


@dataclass(frozen=True)
class MatchedClasses:
    """`labels` (N,) as positions in `classes`, None where the datasets name none; `inner` are the names that only what
    they wrap has; `notes` for a person."""

    labels: NDArray[np.int64]
    classes: Sequence[str] | None
    inner: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def matched_classes(
    parts: Mapping[str, Any], splits: NDArray[np.str_], labels: NDArray[np.int64], where: str
) -> MatchedClasses:
    """The labels of datasets by split's name, with those of all splits in the order of the classes of `train`.

    `splits` (N,) is the split of each label. Names come from a dataset's `classes` or `class_to_idx`, also below a
    `Subset` or a `ConcatDataset`. Raises InputError where a split has images of a class that `train` does not name.
    """
    given = _listed(getattr(parts["train"], "classes", None)) or None
    named = {split: names for split, dataset in parts.items() if (names := _names(dataset, where))}
    notes, inner = tuple(_one_sided(parts, named, where)), () if given else tuple(named.get("train", ()))
    if "train" not in named or all(names == named["train"] for names in named.values()):
        return MatchedClasses(labels, given, inner, notes)
    matched = labels.copy()
    for split, names in named.items():
        chosen = splits == split
        matched[chosen] = _moved(labels[chosen], names, named["train"], f"{where}: {split}")
    if all(names[: len(named["train"])] == named["train"] for names in named.values()):
        return MatchedClasses(matched, given, inner, notes)
    return MatchedClasses(matched, named["train"], notes=notes)


def _names(dataset: Any, where: str) -> list[str]:
    """The names of a dataset's classes by their labels; empty where it, and what it wraps, has none."""
    for _ in range(10):  # wrappers of wrappers
        listed, numbers = _listed(getattr(dataset, "classes", None)), _listed(getattr(dataset, "class_to_idx", None))
        if listed and numbers and set(listed) == set(numbers) and listed != numbers:
            few = f"classes ({', '.join(listed[:4])}, ...) and class_to_idx ({', '.join(numbers[:4])}, ...)"
            raise InputError(f"{where}: a dataset's {few} have another order; allowed: the same")
        if listed or numbers:
            return listed or numbers
        if isinstance(joined := getattr(dataset, "datasets", None), list | tuple):
            return _names_of_all(joined, where)
        dataset = getattr(dataset, "dataset", None)
    return []


def _names_of_all(joined: Sequence[Any], where: str) -> list[str]:
    """The names of datasets that are read as one: their labels must mean the same."""
    found = [names for dataset in joined if (names := _names(dataset, where))]
    if other := next((names for names in found if names != found[0]), None):
        few = f"{', '.join(found[0][:4])}, ... and {', '.join(other[:4])}, ..."
        raise InputError(f"{where}: datasets that are joined to one name other classes ({few}); allowed: the same")
    return found[0] if found else []


def _listed(names: Any) -> list[str]:
    """Names in the order of their numbers, of a list or of a mapping either way; empty for anything else."""
    if isinstance(names, Mapping):
        pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in names.items()]
        whole = sorted((number, name) for number, name in pairs if isinstance(number, int))
        return [str(name) for _, name in whole] if [number for number, _ in whole] == list(range(len(names))) else []
    return list(map(str, names)) if isinstance(names, list | tuple | np.ndarray) else []


def _one_sided(parts: Mapping[str, Any], named: Mapping[str, Sequence[str]], where: str) -> Iterator[str]:
    without = [split for split in parts if split not in named]
    if named and without:
        yield (
            f"{where}: {', '.join(named)} names its classes and {', '.join(without)} does not: labels were taken to "
            "mean the same in both"
        )


def _moved(labels: NDArray[np.int64], names: Sequence[str], wanted: Sequence[str], where: str) -> NDArray[np.int64]:
    """Labels that are positions in `names` as positions in `wanted`. Raises InputError where a name is not there."""
    places = {name: place for place, name in enumerate(wanted)}
    used = sorted(set(labels.tolist()))
    if used and used[-1] >= len(names):
        raise InputError(
            f"{where}: a label is {used[-1]}; allowed: 0 to {len(names) - 1}, as it names {len(names)} classes"
        )
    if missing := [names[label] for label in used if names[label] not in places]:
        raise InputError(
            f"{where}: has images of the class '{missing[0]}', which train does not name; its classes are "
            f"{', '.join(wanted[:10])}{', ...' if len(wanted) > 10 else ''}"
        )
    table = np.array([places.get(name, -1) for name in names], dtype=np.int64)
    return table[labels]
