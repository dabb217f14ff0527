"""The engine that a recipe's transforms name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from paredown.models.spec import InputError
from paredown.stages.discovery import make
from paredown.stages.engines.base import Engine
from paredown.stages.transforms.base import Transform


def engine_of(transforms: Sequence[Transform], root: Path) -> Engine:
    """With its options; our own where no transform names one. Raises MissingError where it is not installed."""
    said = next((transform.engine for transform in transforms if hasattr(transform, "engine")), "own")
    named: dict[str, dict[str, Any]] = {said: {}} if isinstance(said, str) else said
    if len(named) != 1:
        raise InputError(f"quantize.engine names {len(named)} engines ({', '.join(named)}); allowed: one")
    ((name, options),) = named.items()
    return cast(Engine, make("engines", name, options, root))
