"""What a recipe and a budgets file may say, for editors (JSON schema) and for people (Markdown), from one source."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from paredown.models.data.split_names import SPLIT_NAMES
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.public.page import python_page
from paredown.pipeline.recipe.recipe import DEFAULT, Recipe
from paredown.stages import plugins

SCHEMA = Path(__file__).parent / "recipe.schema.json"
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, GATES_PAGE, PYTHON_PAGE = DOCS / "recipe.md", DOCS / "gates.md", DOCS / "python.md"

_INTRO = """# Recipe reference

Written by `python -m paredown.pipeline.reference`; do not edit. The same as a JSON schema for editors is
`pipeline/recipe.schema.json`. Relative paths start from the recipe's folder. A part that is written only in part keeps
the defaults shown here for the rest.
"""

_GATES_INTRO = """# Budgets file reference

Written by `python -m paredown.pipeline.reference`; do not edit. What `paredown gate MODEL --budgets gates.yaml` reads;
relative paths start from its folder. A limit is a factor of the baseline's own value (`1.05x`), an absolute value with
its unit (`8 ms`, `900 KiB`, `2.5 M`), or a list of both, all of which must hold. [docs/ci.md](ci.md) has examples, and
[docs/how-it-works.md](how-it-works.md) says how a verdict comes about.
"""

_SPLIT_FOLDERS = """### Folders of images

A folder stands for one class, with all images in it and below. Split folders hold one folder per class each; they, and
the keys of a function's datasets, may be called, in any letter case:

| split | names |
| --- | --- |"""

_SPLIT_RULES = """
A split that is not there is cut from `train` by the fractions of `data.splits`; where there is nothing else to test on,
the split to validate on is the test split. `paredown check` prints which folder is which split, the classes in order
with their counts, images that are in two splits (left out of the one that trains) or in two classes, and files that are
not read. Folders whose name starts with `_` or `.` are passed over. Refused are folders of images beside the splits,
classes that `train` does not have, and trees in which the folders of classes hold folders that could be classes or
splits themselves: `data.classes: [cat, dog]` says which folders are meant.

Classes are in the order of text, as in torchvision's `ImageFolder` (`0`, `1`, `10`, `2`); a model that was trained in
another order needs `data.classes`. Datasets of a function have their own order (`classes`, `class_to_idx`); those of
several splits are matched by name.
"""

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """JSON schema (draft 2020-12) of a recipe, with the options of every stage that can be imported here."""
    installed = [name for name in plugins.plugin_names("stages") if plugins.missing_requirement("stages", name) is None]
    stages = {name: plugins.load_plugin("stages", name) for name in installed}
    classes: list[tuple[Any, Any]] = [(cls, "validation") for cls in (Recipe, *stages.values())]
    refs, shared = models_json_schema(classes)
    definitions: Schema = shared["$defs"]
    _show_defaults_of_places(definitions)
    top: Schema = definitions.pop(_target(refs[classes[0]]))
    del top["properties"]["root"]
    options = {name: refs[cls, "validation"] for name, cls in stages.items()}
    top["properties"]["pipeline"] |= _pipeline(options)
    top["required"] = [name for name in top["required"] if name not in ("name", "pipeline", "root")]
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return draft | top | {"title": "paredown recipe", "$defs": definitions}


def _show_defaults_of_places(definitions: Schema) -> None:
    """A part whose default is not that of its class (the phases of `recover`) becomes a definition of its own."""
    shared = set()
    for owner in [*definitions]:
        for name, entry in definitions[owner].get("properties", {}).items():
            default = entry.get("default")
            if "$ref" not in entry or not isinstance(default, dict):
                continue
            part = copy.deepcopy(definitions[_target(entry)])
            if default != {key: own.get("default") for key, own in part["properties"].items()}:
                shared.add(_target(entry))
                definitions[f"{owner}.{name}"] = part | {"title": f"{owner}.{name}"}
                entry["$ref"] = f"#/$defs/{owner}.{name}"
                for key, value in default.items():
                    part["properties"][key]["default"] = value
    for name in shared:
        if f'"#/$defs/{name}"' not in json.dumps(definitions):
            del definitions[name]


def recipe_reference() -> str:
    """The reference page: one table of keys for the recipe, for each of its parts, and for each stage."""
    page = recipe_schema()
    parts = {name: entry for name, entry in page["properties"].items() if "$ref" in entry}
    stages = page["properties"]["pipeline"]["items"]["anyOf"][1]["properties"]
    text = [_INTRO, *_table(page, page)]
    for name, entry in parts.items():
        text += _section(f"## {name}", entry, page)
        text += _split_folders() if name == "data" else []
    text += [f"## pipeline\n\nWithout this key a recipe runs {', '.join(f'`{name}`' for name in DEFAULT)}.\n"]
    for name, entry in stages.items():
        text += _section(f"### {name}", entry["anyOf"][0], page)
    return "\n".join(text)


def _split_folders() -> list[str]:
    """The table of names that are understood as splits."""
    rows = [f"| `{split}` | {', '.join(f'`{name}`' for name in names)} |" for split, names in SPLIT_NAMES.items()]
    return [_SPLIT_FOLDERS, *rows, _SPLIT_RULES]


def gates_reference() -> str:
    """The same for a budgets file."""
    page: Schema = Gates.model_json_schema()
    del page["properties"]["root"]
    text = [_GATES_INTRO, *_table(page, page)]
    for name in ("budgets", "target"):
        text += _section(f"## {name}", page["properties"][name], page)
    return "\n".join(text)


def write_reference() -> None:
    """Writes the committed schema and the reference pages anew."""
    SCHEMA.write_text(schema_text())
    PAGE.write_text(recipe_reference())
    GATES_PAGE.write_text(gates_reference())
    PYTHON_PAGE.write_text(python_page())


def schema_text() -> str:
    return json.dumps(recipe_schema(), indent=2, sort_keys=True) + "\n"


def _pipeline(stages: Mapping[str, Schema]) -> Schema:
    """An entry is a name, or one name with its options; a path to a stage's file is a name too."""
    file = {"type": "string", "pattern": r"\.py$"}
    named = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {name: {"anyOf": [ref, {"type": "null"}]} for name, ref in stages.items()},
        "patternProperties": {file["pattern"]: {"type": ["object", "null"]}},
        "additionalProperties": False,
    }
    return {"type": "array", "minItems": 1, "items": {"anyOf": [{"enum": list(stages)}, named, file]}}


def _section(title: str, entry: Schema, page: Schema) -> list[str]:
    """A heading, what the part is for, its table, and the tables of the parts inside it."""
    part = page["$defs"][_target(entry)]
    text = [f"{title}\n\n{_one_line(part.get('description', ''))}\n", *_table(part, page)]
    for name, inner in part.get("properties", {}).items():
        if "$ref" in inner and "properties" in page["$defs"][_target(inner)]:
            text += _section(f"#{title}.{name}", inner, page)
    return text


def _table(part: Schema, page: Schema) -> list[str]:
    rows = [_row(name, entry, part, page) for name, entry in part.get("properties", {}).items()]
    head = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    return [*head, *rows, ""] if rows else ["No options.\n"]


def _row(name: str, entry: Schema, part: Schema, page: Schema) -> str:
    required = name in part.get("required", ())
    default = "required" if required else _default(entry)
    cells = (f"`{name}`", _type(entry, page), default, _one_line(entry.get("description", "")))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(entry: Schema) -> str:
    value = entry.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _type(entry: Schema, page: Schema) -> str:
    """A schema in words: `integer from 1`, `"none" or "flip"`, `list of number`."""
    if "anyOf" in entry:
        kinds = [_type(kind, page) for kind in entry["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in entry:
        part = page["$defs"][_target(entry)]
        return "mapping" if "properties" in part else str(part.get("description", "text"))
    if "enum" in entry or "const" in entry:
        return " or ".join(f"`{json.dumps(value)}`" for value in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        inner: Schema = entry.get("items") or next(iter(entry.get("prefixItems", [])), {})
        return f"list of {_type(inner, page)}" if inner and "anyOf" not in inner else "list"
    return f"{entry.get('type', 'any')}{_range(entry)}"


def _range(entry: Schema) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {entry[key]}" for key, word in words.items() if key in entry)


def _target(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    write_reference()
