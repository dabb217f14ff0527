"""What a serialized ONNX model consists of, looked through before it is parsed: an empty part takes two bytes in a
file, but some 150 in memory."""

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

MOST_PARTS = 1_000_000
"""Fields of a model and of all that is in it; a tensor's data is one, a node with its attributes 20 to 50."""

_DEEPEST = 110
"""Messages in messages; protobuf reads a hundred."""
_BYTES = 2
_TEXT = 9


class RefusedError(Exception):
    """Why a file is refused, in one line without its name."""


def check_wire(content: bytes, most: int = MOST_PARTS) -> None:
    """Refuses a ModelProto with more than `most` fields, or with text that is not UTF-8, which protobuf lets through.

    Bytes that are no message are left to the parser.
    """
    inside: list[tuple[Any, int, int]] = [(ModelProto.DESCRIPTOR, 0, len(content))]
    known: dict[str, Mapping[int, Any]] = {}
    count = 0
    while inside and len(inside) <= _DEEPEST:
        kind, at, end = inside.pop()
        fields = known.setdefault(kind.full_name, kind.fields_by_number)
        while at < end:
            count += 1
            if count > most:
                raise RefusedError(f"it has more than {most} parts")
            try:
                tag, at = _varint(content, at)
                start, at = _skipped(content, at, tag & 7)
            except (IndexError, ValueError):
                return
            field = fields.get(tag >> 3) if tag & 7 == _BYTES else None
            if field is not None and field.message_type is not None:
                inside += [(kind, at, end), (field.message_type, start, min(at, end))]
                break
            if field is not None and field.type == _TEXT:
                _check_text(content[start:at], field.name)


def _check_text(text: bytes, name: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"it has a {name} that is not text in UTF-8: {text[:40]!r}") from error


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next field starts."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _skipped(content: bytes, at: int, wire: int) -> tuple[int, int]:
    """Where a field's content starts and ends."""
    match wire:
        case 0:
            return at, _varint(content, at)[1]
        case 1:
            return at, at + 8
        case 2:
            length, start = _varint(content, at)
            return start, start + length
        case 5:
            return at, at + 4
    raise ValueError("no ONNX file has groups")
