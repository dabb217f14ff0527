"""A SparseML recipe as a list of its modifiers: epoch style (`- !GMPruningModifier`) or stage style (names as keys)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.pipeline.recipe.yaml_lines import Place, YamlDocument, read_yaml
from paredown.pipeline.sparseml.expressions import evaluate_expression, expression_in, with_evaluated
from paredown.pipeline.sparseml.known_modifiers import EPOCH_STYLE, SPELLED_IN_STAGES, STAGE_STYLE
from paredown.stages import plugins

LONGEST = 100_000
"""Epochs."""


@dataclass(frozen=True)
class OptionValue:
    """A value for a paredown recipe, and the option of a modifier that it came from, for comments."""

    value: Any
    origin: str


@dataclass(frozen=True)
class SparsemlModifier:
    """One modifier with its options, every expression in them evaluated. `place` is where its options stand."""

    name: str
    options: Mapping[str, Any]
    staged: bool
    document: YamlDocument
    place: Place

    def spelled(self, key: str) -> str:
        return SPELLED_IN_STAGES.get(key, key) if self.staged else key

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        value = self.options.get(self.spelled(key))
        return default if value is None else value

    def where(self, *keys: str) -> str:
        """`file:line` of an option, or of the modifier."""
        place = (*self.place, *(self.spelled(key) for key in keys))
        return f"{self.document.file}:{self.document.line(place)}"

    def origin(self, key: str) -> str:
        """`line 12: GMPruningModifier.final_sparsity`, for comments."""
        line = self.document.line((*self.place, self.spelled(key)))
        return f"line {line}: {self.name}.{self.spelled(key)}"

    def wrong(self, key: str, text: str) -> InputError:
        """A complaint about an option, or with an empty key about the modifier as a whole."""
        option = f".{self.spelled(key)}" if key else ""
        return InputError(f"{self.where(*[key] * bool(key))}: {self.name}{option} {text}")

    def number(self, key: str, default: float | None = None, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number in a range; text such as `1e-3`, which YAML does not read as a number, is one too."""
        value = self.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        return self.checked(key, value, least, most)

    def checked(self, key: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not (math.isfinite(number) and least <= number <= most):
            at_least = f" from {least:g}" if least > -math.inf else ""
            raise self.wrong(
                key, f"should be a number{at_least}{f' to {most:g}' if most < math.inf else ''}, got {value!r}"
            )
        return number

    def epoch(self, key: str) -> float:
        """An epoch; -1, SparseML's word for "from the beginning" or "to the end", stays, also where it is not given."""
        return self.number(key, -1.0, -1, LONGEST)

    @property
    def start(self) -> float:
        """The epoch in which it starts to act."""
        return max(0.0, self.epoch("start_epoch"))

    def names(self, key: str, default: Any = None) -> list[str]:
        """A list of texts; one text alone is a list of one."""
        value = self.get(key, default)
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise self.wrong(key, f"should be a list of names, got {value!r}")
        if odd := [item for item in listed if not item.isprintable() or len(item) > 500]:
            raise self.wrong(key, f"holds {odd[0][:40]!r}, which cannot be the name of a layer")
        return listed


def read_modifiers(file: Path) -> tuple[SparsemlModifier, ...]:
    """The modifiers of a recipe file (`.yaml`, or Markdown with YAML front matter), in its order.

    Raises InputError with file and line for a modifier or an option that paredown does not know: it cannot tell
    what leaving it out would change.
    """
    document = read_yaml(file, tagged=True)
    if not isinstance(document.data, dict):
        raise InputError(f"{file}:1: a SparseML recipe is a mapping with a key `modifiers`, or stages that have some")
    modifiers = tuple(_modifiers(document, document.data, (), {}))
    if not modifiers:
        raise InputError(
            f"{file}:1: no modifiers found; they stand under `modifiers:`, or in a stage's `..._modifiers:`"
        )
    return modifiers


def at_most_one(modifiers: Sequence[SparsemlModifier], kind: str) -> list[SparsemlModifier]:
    """The modifier whose name ends like this, if any; raises InputError for a second one."""
    matches = [m for m in modifiers if m.name.endswith(kind)]
    for other in matches[1:]:
        raise other.wrong("", f"follows another on line {matches[0].where().rpartition(':')[2]}; allowed: one")
    return matches


def _modifiers(
    document: YamlDocument, data: Mapping[str, Any], place: Place, outer: Mapping[str, Any]
) -> Iterator[SparsemlModifier]:
    """Of the file or of a stage; whatever else stands beside modifiers and stages are variables for expressions."""
    groups = {key for key in data if "modifiers" in key}
    stages = {key for key, value in data.items() if key not in groups and _is_stage(key, value)}
    own = {key: value for key, value in data.items() if key not in groups | stages}
    variables, failed = with_evaluated({**outer, **own})
    for key, reason in failed.items():
        raise InputError(f"{document.file}:{document.line((*place, key))}: {key}: {data[key]} {reason}")
    for key, value in data.items():
        if key in groups:
            yield from _group(document, value, (*place, key), variables)
        elif key in stages:
            yield from _modifiers(document, value, (*place, key), variables)


def _is_stage(key: str, value: Any) -> bool:
    inner = isinstance(value, dict)
    return inner and (any("modifiers" in name for name in value) or (key == "stages" and bool(value)))


def _group(
    document: YamlDocument, group: Any, place: Place, variables: Mapping[str, Any]
) -> Iterator[SparsemlModifier]:
    if isinstance(group, dict):
        entries = [((*place, name), name, options) for name, options in group.items()]
    elif isinstance(group, list) and all(isinstance(item, dict) for item in group):
        entries = [((*place, i, name), name, opts) for i, item in enumerate(group) for name, opts in item.items()]
    else:
        line = document.line(place)
        raise InputError(f"{document.file}:{line}: {place[-1]} should list modifiers (`- !Name`), got {group!r}")
    for where, name, options in entries:
        yield _modifier(document, name, {} if options is None else options, where, variables)


def _modifier(
    document: YamlDocument, tag: str, options: Any, place: Place, variables: Mapping[str, Any]
) -> SparsemlModifier:
    staged, name = not tag.startswith("!"), tag.removeprefix("!")
    known = STAGE_STYLE if staged else EPOCH_STYLE
    at = f"{document.file}:{document.line(place)}"
    if name not in known:
        raise InputError(f"{at}: the modifier {name} cannot be imported; {plugins.allowed_choices(name, known)}")
    if not isinstance(options, dict):
        raise InputError(f"{at}: {name} should be a mapping of options, got {options!r}")
    modifier = SparsemlModifier(name, _evaluated(document, options, place, variables), staged, document, place)
    allowed = [modifier.spelled(key) for key in known[name].split()]
    for key in options:
        if key not in allowed:
            line = document.line((*place, key))
            raise InputError(
                f"{document.file}:{line}: {name}.{key} is not known; {plugins.allowed_choices(key, allowed)}"
            )
    return modifier


def _evaluated(document: YamlDocument, value: Any, place: Place, variables: Mapping[str, Any]) -> Any:
    """The value with every `eval(...)` in it replaced by what it gives."""
    if isinstance(value, dict):
        return {key: _evaluated(document, item, (*place, key), variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_evaluated(document, item, (*place, i), variables) for i, item in enumerate(value)]
    if not isinstance(value, str) or "eval(" not in value:
        return value
    expression, at = expression_in(value), f"{document.file}:{document.line(place)}"
    if expression is None:
        raise InputError(f"{at}: {value!r} holds an expression inside of text; allowed: eval(...) alone")
    try:
        return evaluate_expression(expression, variables)
    except ValueError as error:
        raise InputError(f"{at}: {value} {error}") from error
