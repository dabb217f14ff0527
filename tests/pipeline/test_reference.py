"""The committed schema and reference page say what the code says."""

import json

from paredown.pipeline.gate.budgets import Budgets, Gates
from paredown.pipeline.reference import GATES_PAGE, PAGE, SCHEMA, gates_reference, recipe_reference, schema, schema_text
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
    page = schema()
    assert set(page["properties"]) == {"name", "seed", "model", "data", "target", "limits", "pipeline", "front", "card"}
    assert set(page["required"]) == {"model", "data", "limits"}
    assert page["additionalProperties"] is False
    entries = page["properties"]["pipeline"]["items"]["anyOf"]
    assert entries[0]["enum"] == plugins.names("stages")
    assert set(entries[1]["properties"]) == set(plugins.names("stages"))
    assert "Step" not in page["$defs"]
    text = json.dumps(page)
    assert all(f'"{name}"' in text for name in page["$defs"])


def test_every_key_has_a_meaning() -> None:
    page = schema()
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
