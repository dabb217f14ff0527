"""The committed schema and reference page say what the code says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from paredown.models.spec import Spec
from paredown.pipeline.gate.budgets import Budgets, Gates
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.reference import (
    GATES_PAGE,
    PAGE,
    SCHEMA,
    gates_reference,
    recipe_reference,
    recipe_schema,
    schema_text,
)
from paredown.stages import plugins

MEND = "run: python -m paredown.pipeline.reference"


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA.read_text() == schema_text(), MEND


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == recipe_reference(), MEND


def test_the_page_of_budgets_is_current_and_complete() -> None:
    page = gates_reference()
    assert GATES_PAGE.read_text() == page, MEND
    names = [name for name in (*Gates.model_fields, *Budgets.model_fields) if name != "root"]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_the_schema_says_what_may_be_written() -> None:
    page = recipe_schema()
    assert set(page["properties"]) == {"name", "seed", "model", "data", "target", "limits", "pipeline", "front", "card"}
    assert set(page["required"]) == {"model", "data", "limits"}
    assert page["additionalProperties"] is False
    entries = page["properties"]["pipeline"]["items"]["anyOf"]
    assert entries[0]["enum"] == plugins.plugin_names("stages")
    assert set(entries[1]["properties"]) == set(plugins.plugin_names("stages"))
    assert "Step" not in page["$defs"]
    text = json.dumps(page)
    assert all(f'"{name}"' in text for name in page["$defs"])


def test_every_key_has_a_meaning() -> None:
    page = recipe_schema()
    parts = [part for part in [page, *page["$defs"].values()] if "properties" in part]
    silent = [
        f"{part['title']}.{name}"
        for part in parts
        for name, entry in part["properties"].items()
        if not entry.get("description")
    ]
    assert silent == []


def test_the_page_shows_types_and_defaults() -> None:
    page = recipe_reference()
    assert '| `runtime` | string | `"onnxruntime"` | name of a runtime, or path/to/file.py |' in page
    assert "| `latency_p50` | number with unit |  | median time of one inference: 0.5x or 8 ms |" in page
    assert "| `accuracy_drop` | number from 0 to 100 |" in page


def shown(page: str) -> Iterator[tuple[str, str, str]]:
    """(heading, key, default as it is shown) of every row of a page."""
    heading = ""
    for line in page.splitlines():
        heading = line.lstrip("# ") if line.startswith("#") else heading
        if row := re.match(r"\| `(\w+)` \|(?:[^|\\]|\\.)*\| ((?:[^|\\]|\\.)*) \|", line):
            yield heading, row[1], row[2]


def true_default(heading: str, key: str) -> Any:
    """The code's own: of a stage that is made without options, else of the class of a recipe's part."""
    first, *inner = heading.split(".")
    if first in plugins.plugin_names("stages"):
        part = plugins.load_plugin("stages", first)()
        for name in inner:
            part = getattr(part, name)
        return part.model_dump().get(key, getattr(part, key))  # what was added later is not in a dump
    cls: type[Spec] = Recipe
    for name in heading.split(".") if heading in ("model", "data", "data.splits", "target", "limits", "card") else ():
        annotation = cls.model_fields[name].annotation
        assert isinstance(annotation, type)
        cls = annotation
    field = cls.model_fields[key]
    if field.is_required():
        return "required"
    return json.loads(json.dumps(field.default, default=lambda part: part.model_dump(mode="json")))


def test_every_default_of_the_page_is_the_code_s() -> None:
    rows = list(shown(PAGE.read_text()))
    assert {heading for heading, _, _ in rows} >= {"Recipe reference", "fit", "recover.distil", "recover.quantize"}
    wrong = []
    for heading, key, cell in rows:
        value = true_default(heading, key)
        if value == "required":
            expected = "required" if key not in ("name", "pipeline") else ""
        else:
            expected = "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"
        wrong += [] if cell.replace("\\|", "|") == expected else [(heading, key, cell, expected)]
    assert wrong == []


@pytest.mark.parametrize(("phase", "epochs", "lr"), [("distil", 8, 1e-3), ("quantize", 2, 1e-4)])
def test_a_phase_has_its_own_defaults_in_the_schema(phase: str, epochs: int, lr: float) -> None:
    page = recipe_schema()
    named = page["$defs"]["Recover"]["properties"][phase]["$ref"].rpartition("/")[2]
    own = {name: part["default"] for name, part in page["$defs"][named]["properties"].items()}
    assert own == page["$defs"]["Recover"]["properties"][phase]["default"]
    assert (own["epochs"], own["lr"]) == (epochs, lr)
    assert "Schedule" not in page["$defs"]
