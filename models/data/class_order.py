"""The order of the classes: a model's answer is the position of a class in it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.sources import ImageSource, checked_names, class_names
from paredown.models.errors import InputError
from paredown.models.files import read_text, resolve_path

_LONGEST = 2**24
_FORMS = 'one name per line, a JSON list of names, {"0": "name", ...} or {"name": 0, ...}'


def listed_classes(written: Sequence[str] | str | None, root: Path) -> tuple[str, ...]:
    """The classes that `data.classes` says, in order: a list, or the path of a file; empty where it is left out.

    Raises InputError for a name that is there twice, and for a file of another form.
    """
    if written is None:
        return ()
    if isinstance(written, str):
        file = resolve_path(written, root)
        return _checked(_read_names(file), str(file))
    return _checked(tuple(written), "data.classes")


def _checked(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise InputError(f"{where}: the class '{name}' is there twice; allowed: every name once")
        seen.add(name)
    if len(names) < 2:
        raise InputError(f"{where}: {len(names)} classes; a classifier needs two or more")
    return checked_names(names, where)


def _read_names(file: Path) -> tuple[str, ...]:
    text = read_text(file, _LONGEST).removeprefix("\ufeff")  # editors on Windows start a file with it
    if not text.lstrip().startswith(("[", "{")):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        return _names_in(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: no list of classes that can be read ({error}); allowed: {_FORMS}") from error


def _names_in(data: Any) -> tuple[str, ...]:
    """The names in JSON of the forms that are allowed, and in a config of transformers. Raises ValueError."""
    if isinstance(data, Mapping) and isinstance(data.get("id2label"), Mapping):
        data = data["id2label"]
    if isinstance(data, Mapping):
        data = _by_number(data)
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise ValueError("got something else than names")
    return tuple(data)


def _by_number(data: Mapping[str, Any]) -> list[Any]:
    """The names of a mapping between numbers and names, whichever of them are its keys, in the numbers' order."""
    if data and all(isinstance(value, int) for value in data.values()):
        named = {number: name for name, number in data.items()}
    else:
        named = {int(number): name for number, name in data.items()}
    if sorted(named) != list(range(len(data))):
        raise ValueError(f"the numbers are not 0 to {len(data) - 1}, each once")
    return [named[number] for number in range(len(named))]


def in_order(source: ImageSource, classes: tuple[str, ...], where: str) -> ImageSource:
    """The same images with their labels as positions in `classes`, which may name more than there are images of.

    Classes are matched by their names; the numbers of a source that has no names stand for positions.
    Raises InputError where a class of the source is not among them.
    """
    if not source.named and source.inner_names:
        source = replace(source, classes=class_names(source.inner_names, source.labels, where), named=True)
    places, having = {name: place for place, name in enumerate(classes)}, set(source.classes)
    missing = [name for name in source.classes if name not in places]
    if not missing:
        moved = np.array([places[name] for name in source.classes], dtype=np.int64)
        return _named(source, moved[source.labels], classes)
    if not source.named and len(source.classes) <= len(classes):
        return _named(source, source.labels, classes)
    unseen = [name for name in classes if name not in having]
    raise InputError(
        f"{where}: data.classes lists {len(classes)} classes, but not {_few(missing)}, of which there are images"
        + (f"; without images: {_few(unseen)}" if unseen else "")
        + _written_otherwise(missing, unseen)
    )


def _written_otherwise(missing: Sequence[str], unseen: Sequence[str]) -> str:
    """What to add where names look alike and are not: an accented letter may be a letter and an accent."""
    listed = {normalize("NFC", name): name for name in unseen}
    alike = [name for name in missing if normalize("NFC", name) in listed]
    if not alike:
        return ""
    name = alike[0]
    other = listed[normalize("NFC", name)]
    return f"; {name!a} of the images and {other!a} of the list only look alike: write the first in the list"


def _named(source: ImageSource, labels: NDArray[np.int64], classes: tuple[str, ...]) -> ImageSource:
    with_images = set(labels.tolist())
    unseen = frozenset(name for place, name in enumerate(classes) if place not in with_images)
    return replace(source, labels=labels, classes=classes, named=True, unseen=unseen)


def number_order_note(classes: Sequence[str]) -> Iterator[str]:
    """A line where the order of text puts numbers in another order than people do: 0, 1, 10, 2."""
    natural = sorted(classes, key=_natural)
    if list(classes) == sorted(classes) and list(classes) != natural:
        yield (
            f"the classes are in the order of text ({_few(classes)}), as torchvision's ImageFolder has them; a model "
            f"that was trained in the order of numbers needs data.classes: [{_few(natural)}]"
        )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts digits by their value: the parts of the name, text and numbers in turn."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name) if part]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
