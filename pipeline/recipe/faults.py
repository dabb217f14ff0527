"""Complaints about a YAML file: pydantic's errors in our words, with the file and the line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from paredown.models.errors import InputError
from paredown.models.spec import Spec
from paredown.pipeline.recipe.yaml_lines import Place, YamlDocument
from paredown.stages import plugins

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class RecipeFault:
    """A complaint, and the place in the file that it is about."""

    place: Place
    text: str


def known_keys(document: YamlDocument, what: str, keys: Sequence[str]) -> tuple[dict[str, Any], list[RecipeFault]]:
    """The top level of `what` (`a recipe`) without the keys that are not among `keys`, and a fault for each of those.

    Raises InputError where the file holds no mapping.
    """
    if not isinstance(document.data, dict):
        raise InputError(f"{document.file}:1: {what} is a mapping with the keys {', '.join(keys)}")
    known = {key: value for key, value in document.data.items() if key in keys}
    unknown = [key for key in document.data if key not in keys]
    return known, [RecipeFault((key,), f"{key} is not known; {plugins.allowed_choices(key, keys)}") for key in unknown]


def parse_spec(cls: type[S], data: Any, document: YamlDocument, place: Place) -> tuple[S | None, list[RecipeFault]]:
    """`data`, which stands at `place`, as a `cls`; None and what is wrong where it cannot be one."""
    try:
        return cls.model_validate(data), []
    except ValidationError as error:
        return None, [_fault(cls, details, document, place) for details in error.errors()]
    except InputError as error:
        return None, [RecipeFault(place, str(error))]


def as_error(document: YamlDocument, faults: Iterable[RecipeFault]) -> InputError:
    """All faults in the order of their lines, one line each: `file:line: what; allowed: ...`."""
    numbered = sorted((document.line(fault.place), fault.text) for fault in faults)
    return InputError("\n".join(f"{document.file}:{line}: {text}" for line, text in numbered))


def _fault(cls: type[Spec], details: ErrorDetails, document: YamlDocument, place: Place) -> RecipeFault:
    """One of pydantic's complaints in our words: what, what was got, what is allowed."""
    inner, kind, got = details["loc"], details["type"], details["input"]
    if kind in ("extra_forbidden", "missing"):
        key, owner = _dotted((*place, *inner)), _spec_at(cls, inner[:-1])
        if kind == "missing":
            meaning = owner.model_fields[str(inner[-1])].description if owner else None
            return RecipeFault((*place, *inner), f"{key} is missing{f': {meaning}' if meaning else ''}")
        allowed = plugins.allowed_choices(str(inner[-1]), owner.model_fields if owner else ())
        return RecipeFault((*place, *inner), f"{key} is not known; {allowed}")
    known = document.known((*place, *inner))
    return RecipeFault(known, f"{_dotted(known) or _dotted(inner)} {_complaint(cls, details)}, got {got!r}")


def _complaint(cls: type[Spec], details: ErrorDetails) -> str:
    text = re.sub(r"^(Value error, |\w+ (?=should ))", "", details["msg"])
    if details["type"] == "literal_error":
        close = plugins.allowed_choices(str(details["input"]), re.findall(r"'([^']*)'", details["ctx"]["expected"]))
        return f"is not one of them; {close}"
    if details["type"] in ("model_type", "model_attributes_type"):
        owner = _spec_at(cls, details["loc"])
        return f"should be a mapping with the keys {', '.join(owner.model_fields if owner else ())}"
    return text if text.startswith("should") else f"is wrong: {text}"


def _dotted(place: Place) -> str:
    """`data.splits.train`; an option of a stage of the pipeline starts with the stage's name: `search.rounds`."""
    shown = place[2:] if place[:1] == ("pipeline",) and len(place) > 2 else place
    return ".".join(map(str, shown))


def _spec_at(cls: type[Spec], inner: Place) -> type[Spec] | None:
    """The part of a recipe that stands at `inner` inside a `cls`."""
    part: type[Spec] | None = cls
    for key in inner:
        if part is None or key not in part.model_fields:
            continue  # a list position, or a union's tag
        part = _spec_in(part.model_fields[str(key)].annotation)
    return part


def _spec_in(annotation: Any) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    return next((spec for part in get_args(annotation) if (spec := _spec_in(part))), None)
