"""What differs between a lock and what is there now, in words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from paredown.models.printable import printable
from paredown.models.spec import Record
from paredown.pipeline.lock.lock import Environment, Lock, LockedInputs, RecipeRecord
from paredown.stages.products.product_files import PRODUCTS

ABSENT = object()


def recipe_drift(then: Lock, now: RecipeRecord) -> list[str]:
    """Of what the recipe says: `recipe: limits.size is "0.3x", the lock has "0.25x"`."""
    flat = ({**record.model_dump(mode="json", exclude={"options"}), **record.options} for record in (then.recipe, now))
    return _lines("recipe", *flat)


def file_drift(then: LockedInputs, now: Mapping[str, Any]) -> list[str]:
    """Of the model's code, its weights and the plugins, by their sha256."""
    held = {name: getattr(then, name) for name in now}
    return [f"{line} (sha256)" for line in _lines("", held, now)]


def split_drift(then: LockedInputs, now: LockedInputs) -> list[str]:
    """Of the images in each split, of the classes and of the licence."""
    return [
        *_lines("data", {"classes": then.classes}, {"classes": now.classes}),
        *_lines("data split", then.splits, now.splits),
    ]


def environment_drift(then: Environment, now: Environment) -> list[str]:
    """Of versions and of the machine."""
    return _lines("", then, now)


def outcome_drift(then: Lock, now: Lock) -> list[str]:
    """Of all that decides an artifact, after a run: what is recorded of how it was made, and the first product that is
    another one."""
    lines = environment_drift(then.environment, now.environment)
    lines += split_drift(then.inputs, now.inputs)
    decided = {"bf16", "device", "threads", "processes", "replacements", "quantization"}
    lines += _lines("", then.decisions.model_dump(include=decided), now.decisions.model_dump(include=decided))
    return lines or ["nothing recorded differs, but the hash does"]


def first_other_product(then: Lock, now: Lock) -> str:
    """The earliest product that came out otherwise, in words."""
    order = [f"{name}/{file}" for name, product in PRODUCTS.items() for file in product.timeless]
    other = (name for name in order if then.products.get(name) != now.products.get(name))
    name = next(other, None)
    if name is None:
        return "the exported network is the same, only what the artifact says of itself is not"
    return f"the first product that is another one is {name}"


def _lines(where: str, then: Any, now: Any) -> list[str]:
    """One line for every leaf that differs."""
    start = f"{where}: " if where else ""
    return [
        f"{start}{path} is {shown_value(b)}, the lock has {shown_value(a)}" for path, a, b in differences(then, now)
    ]


def differences(then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """(path, before, after) of every leaf of nested plain data that differs; ABSENT is what one of them lacks."""
    old, new = dict(_leaves(_plain(then))), dict(_leaves(_plain(now)))
    for path in dict.fromkeys((*old, *new)):
        a, b = old.get(path, ABSENT), new.get(path, ABSENT)
        if a != b:
            yield path, a, b


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield printable(".".join(path)), value


def shown_value(value: Any, most: int = 100) -> str:
    """As it would stand in a lock, in one line; of a digest as much as tells it from another."""
    if value is ABSENT:
        return "not there"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:12]}…"
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= most else f"{text[: most - 3]}..."
