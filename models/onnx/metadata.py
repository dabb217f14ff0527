"""Facts that a model file holds about itself: JSON in the ONNX format's metadata, under keys `paredown.<name>`."""

import json
from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

PREFIX = "paredown."


def embed_metadata(model: ModelProto, facts: Mapping[str, Any]) -> None:
    """Writes each fact as `paredown.<name>`, in order of names; metadata of others stays, our own from before does not.

    Raises ValueError for what JSON cannot say.
    """
    others = [(entry.key, entry.value) for entry in model.metadata_props if not entry.key.startswith(PREFIX)]
    own = [(PREFIX + name, metadata_text(facts[name])) for name in sorted(facts)]
    del model.metadata_props[:]
    for key, value in [*others, *own]:
        model.metadata_props.add(key=key, value=value)


def embedded_metadata(model: ModelProto) -> dict[str, Any]:
    """What `embed_metadata` wrote; empty for a model of others. A value that is no JSON is given as its text."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    return {key.removeprefix(PREFIX): _read(value) for key, value in entries.items() if key.startswith(PREFIX)}


def metadata_text(fact: Any) -> str:
    """A fact as the file has it: the same fact gives the same text."""
    return json.dumps(fact, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
