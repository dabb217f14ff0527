"""Layers as a SparseML recipe names them (parameters, modules, expressions), as pins of paredown's transforms."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paredown.pipeline.sparseml.modifiers import SparsemlModifier

EVERY = ".*"
_WEIGHT = re.compile(r"(?P<layer>.*?)(?:\[\.\]|\\\.|\.)?weight\$?")
_MOST_REPEATS = 6


@dataclass(frozen=True)
class LayerPin:
    """A value that layers are held to: a level, or a precision. `layers` is a name, or with `many` an expression.

    `origin` names the option that says so, for comments, and `where` its file and line.
    """

    layers: str
    many: bool
    value: float | str
    origin: str
    where: str

    def meets(self, other: "LayerPin") -> bool:
        """Whether some layer is known to be in both; of two different expressions nothing is known."""
        if self.layers == other.layers or EVERY in (self.layers, other.layers):
            return True
        if self.many == other.many:
            return False
        name, expression = (other, self) if self.many else (self, other)
        return re.fullmatch(expression.layers, name.layers[:100]) is not None


def layer_pins_of(modifier: SparsemlModifier, key: str, names: Sequence[str], value: float | str) -> Iterator[LayerPin]:
    """The pins to a value for what an option of a modifier names; biases, which are never pruned, have none."""
    origin, where = modifier.origin(key), modifier.where(key)
    for name in names:
        if name in ("__ALL__", "__ALL_PRUNABLE__"):
            yield LayerPin(EVERY, True, value, origin, where)
        elif name.rstrip("$").endswith("bias"):
            continue
        elif name.startswith("re:"):
            yield LayerPin(expression_of(modifier, key, name), True, value, origin, where)
        elif modifier.staged and is_module_class(name):
            raise modifier.wrong(key, f"names the class {name}; allowed: names of layers, re:<expression>, __ALL__")
        elif modifier.staged and modifier.name != "MagnitudePruningModifier" and not name.endswith(".weight"):
            yield LayerPin(rf"{re.escape(name)}(\..*)?", True, value, origin, where)  # a module with all that is in it
        else:
            yield LayerPin(name.removesuffix(".weight"), False, value, origin, where)


def expression_of(modifier: SparsemlModifier, key: str, name: str) -> str:
    """An expression over parameters, which SparseML matches from their start, as one over whole names of layers."""
    written = name.removeprefix("re:")
    if "|" in _without_groups(written):
        raise modifier.wrong(key, f"holds {name!r}: write the alternatives beside | as entries of their own")
    if match := _WEIGHT.fullmatch(written):
        pattern = re.sub(r"(?<!\\)\.\+$", ".*", match["layer"])  # what stands before `weight` may be the dot alone
    elif modifier.staged and written.endswith("$"):
        pattern = rf"{written[:-1]}(\..*)?"
    else:
        pattern = written if written.endswith(".*") else f"{written}.*"
    if not pattern or "weight" in pattern or "$" in pattern:
        raise modifier.wrong(
            key, f"holds {name!r}, which names no layers; allowed: re:<layers>.weight, re:<start of names>"
        )
    _refuse_slow(modifier, key, name, pattern)
    return pattern


def _without_groups(pattern: str) -> str:
    """The pattern without what stands in innermost brackets."""
    before = ""
    while before != pattern:
        before, pattern = pattern, re.sub(r"\\.|\[[^\]]*\]|\([^()]*\)", "", pattern)
    return pattern


def _refuse_slow(modifier: SparsemlModifier, key: str, name: str, pattern: str) -> None:
    """Expressions that are wrong, or that can take for ever on a long name."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise modifier.wrong(key, f"holds {name!r}, which is no regular expression: {error}") from error
    bare = re.sub(r"\\.", "_", pattern, flags=re.DOTALL)
    if re.search(r"\)[*+?{]", bare) or len(re.findall(r"[*+?{]", bare)) > _MOST_REPEATS:
        limit = f"allowed: no repeated groups, up to {_MOST_REPEATS} of * + ? {{"
        raise modifier.wrong(key, f"holds {name!r}, which can take for ever to match; {limit}")


def is_module_class(name: str) -> bool:
    return name[:1].isupper() and name.isidentifier()
