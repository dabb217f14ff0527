"""What a module returned, whatever that is: its parts by key, name or place, and in words."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

Key = str | int
"""Of a mapping, the name of an attribute, or the place in a sequence."""

LOGITS = "logits"
"""What the libraries call the main one of several outputs."""


def main_tensor(returned: Any, output: Key | None) -> Tensor | None:
    """The logits in what a module returned: the one tensor, the one at `output`, the only one, or the one called
    `logits`; None where that is not clear."""
    if isinstance(returned, Tensor):
        return returned
    parts = parts_of(returned)
    only = next(iter(parts.values())) if len(parts) == 1 else parts.get(LOGITS)
    found = part_at(parts, output) if output is not None else only
    return found if isinstance(found, Tensor) else None


def parts_of(returned: Any) -> dict[Key, Any]:
    """What a module returned, by key, name or place, without what is None; empty for what has no parts."""
    if isinstance(returned, Mapping):
        parts = dict(returned)
    elif isinstance(returned, tuple) and hasattr(returned, "_asdict"):
        parts = returned._asdict()
    elif isinstance(returned, list | tuple):
        parts = dict(enumerate(returned))
    elif is_dataclass(returned):
        parts = {field.name: getattr(returned, field.name) for field in fields(returned)}
    else:
        parts = {name: part for name, part in getattr(returned, "__dict__", {}).items() if not name.startswith("_")}
    return {key: part for key, part in parts.items() if part is not None}


def part_at(parts: Mapping[Key, Any], key: Key) -> Any:
    """By key, or by place in whatever has an order."""
    if key in parts or not isinstance(key, int):
        return parts.get(key)
    return [*parts.values()][key] if -len(parts) <= key < len(parts) else None


def returned_in_words(returned: Any) -> str:
    """`2 values: 'logits' float32 (2, 4), 'features' float32 (2, 512)`."""
    parts = parts_of(returned)
    if not parts:
        return f"a {type(returned).__name__}"
    listed = ", ".join(f"{key!r} {form_of(part)}" for key, part in parts.items())
    return f"{len(parts)} value{'s' if len(parts) > 1 else ''}: {listed}"


def form_of(part: Any) -> str:
    if not isinstance(part, Tensor):
        return type(part).__name__
    return f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}"
