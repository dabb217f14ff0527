"""Products' JSON files: dataclasses written as they stand, and read back with the type of every value checked."""

import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from paredown.models.errors import InputError
from paredown.models.files import read_json
from paredown.models.printable import printable

T = TypeVar("T")

LONGEST = 64 * 2**20
"""Bytes of one document."""

LEFT_OUT: Mapping[str, bool] = {"left out": True}
"""Metadata of a field that a document does not have while the field has its default."""


def plain_data(value: Any) -> Any:
    """Nested dataclasses, mappings and sequences as dicts and lists, which JSON can say."""
    if is_dataclass(value):
        held = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: plain_data(one) for field, one in held if not _left_out(field, one)}
    if isinstance(value, Mapping):
        return {name: plain_data(one) for name, one in value.items()}
    return [plain_data(one) for one in value] if isinstance(value, list | tuple) else value


def _left_out(field: Field[Any], value: Any) -> bool:
    return bool(field.metadata.get("left out")) and (value is field.default or value == field.default)


def write_document(file: Path, content: Any, indent: int | None, sort_keys: bool = False) -> None:
    """Writes dataclasses, or plain data, as JSON with a line break at its end."""
    file.write_text(json.dumps(plain_data(content), indent=indent, sort_keys=sort_keys) + "\n")


def read_document(cls: type[T], file: Path) -> T:
    """The `cls` that a stage wrote. Raises InputError, one line with file and field, where somebody changed it."""
    return parse_dataclass(cls, read_json(file, LONGEST), damage_complaint(file))


def read_object(file: Path) -> dict[str, Any]:
    """A document's JSON object, for products whose file has another form than they have."""
    return parse_dataclass(dict[str, Any], read_json(file, LONGEST), damage_complaint(file))


def damage_complaint(file: Path) -> str:
    """How complaints about a document start that is not what a stage writes."""
    return f"{file}: damaged, it is not what a run writes"


def parse_dataclass(cls: type[T], data: Any, complaint: str) -> T:
    """Parsed JSON of any origin as a `cls`, a dataclass; keys that it does not know are dropped.

    Raises InputError that starts with `complaint` and names the first thing that is wrong.
    """
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{complaint} ({printable(place)}: {first['msg']})") from error
