"""YAML as plain data that remembers its lines, so that every complaint can say where."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paredown.models.errors import InputError
from paredown.models.files import read_text

_LONGEST = 2**20
_DEEPEST = 20
_MAPPING, _SEQUENCE = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"

Place = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it."""


@dataclass(frozen=True)
class YamlDocument:
    """What a YAML file says, and the line (from 1) of every key and list entry."""

    file: Path
    data: Any
    lines: Mapping[Place, int]

    def known(self, place: Place) -> Place:
        """The longest part of `place` that is written in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return place

    def line(self, place: Place) -> int:
        return self.lines.get(self.known(place), 1)


def read_yaml(file: Path, tagged: bool = False) -> YamlDocument:
    """Reads one YAML document; raises InputError with file and line for anything that is not plain data.

    Keys given twice and aliases are refused: the first hides a mistake, the second can blow up without end.
    With `tagged` the file is another tool's: `!Name {a: 1}` is read as the plain data `{"!Name": {a: 1}}`, a number as
    a key becomes the text as it is written, and a Markdown file stands for the YAML in its front matter.
    """
    text = read_text(file, _LONGEST)
    if tagged and file.suffix.lower() == ".md":
        text = _front_matter(file, text)
    try:
        return _compose(file, text, tagged)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{file}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error


def _front_matter(file: Path, text: str) -> str:
    """What stands between the first two lines of `---`, moved to the lines where it stands in the file."""
    lines = text.splitlines()
    fences = [number for number, line in enumerate(lines) if line.strip() in ("---", "+++")][:2]
    if len(fences) < 2 or any(line.strip() for line in lines[: fences[0]]):
        raise InputError(f"{file}:1: no YAML front matter: it stands between two lines of --- at the file's start")
    first, last = fences
    return "\n" * (first + 1) + "\n".join(lines[first + 1 : last])


def _compose(file: Path, text: str, tagged: bool) -> YamlDocument:
    _refuse_traps(file, text)
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    lines: dict[Place, int] = {}
    data = None if node is None else _Reader(file, loader, lines, tagged).value(node, ())
    return YamlDocument(file, data, lines)


def _refuse_traps(file: Path, text: str) -> None:
    """Aliases and endless nesting, before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{file}:{line}: aliases (*{event.anchor}) are not allowed")
        if depth > _DEEPEST:
            raise InputError(f"{file}:{line}: nested more than {_DEEPEST} levels deep")


@dataclass(frozen=True)
class _Reader:
    file: Path
    loader: yaml.SafeLoader
    lines: dict[Place, int]
    tagged: bool

    def value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if self.tagged and node.tag.startswith("!"):
            return self.options(node, place)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if node.tag not in (_MAPPING, _SEQUENCE):
            raise InputError(f"{self.file}:{line}: the tag {node.tag} is not allowed")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        return [self.value(item, (*place, i)) for i, item in enumerate(node.value)]

    def options(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """`!Name` with its options, of which there may be none."""
        name, line = node.tag, node.start_mark.line + 1
        self.lines[(*place, name)] = line
        if isinstance(node, yaml.MappingNode):
            return {name: self.mapping(node, (*place, name))}
        if isinstance(node, yaml.ScalarNode) and not node.value:
            return {name: {}}
        raise InputError(f"{self.file}:{line}: {name} should be followed by its options, `key: value`")

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self.scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if self.tagged and isinstance(key, int | float):
                key = key_node.value
            if not isinstance(key, str) or not key.isprintable():
                raise InputError(f"{self.file}:{line}: a key must be text in one line, got {key!r}")
            if key in data:
                first = self.lines[(*place, key)]
                raise InputError(f"{self.file}:{line}: {key} is given twice, first on line {first}")
            self.lines[(*place, key)] = line
            data[key] = self.value(value_node, (*place, key))
        return data

    def scalar(self, node: yaml.Node) -> Any:
        try:
            return self.loader.construct_object(node)
        except ValueError as error:
            line = node.start_mark.line + 1
            raise InputError(f"{self.file}:{line}: {node.value!r} cannot be read: {error}") from error
