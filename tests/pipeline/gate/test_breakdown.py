"""Where the bytes and the milliseconds are: the rows add up."""

from collections.abc import Mapping
from typing import Any

import pytest

from paredown.models.onnx.facts import LayerFacts, ModelFacts
from paredown.pipeline.gate.breakdown import TOP, breakdown
from paredown.pipeline.gate.outcome import OutcomeTable


def layer(name: str, size: int, op: str = "Conv", precision: str = "") -> LayerFacts:
    return LayerFacts(name, op, size, size, size, precision)


def facts(*layers: LayerFacts, rest: int = 0) -> ModelFacts:
    return ModelFacts(sum(one.bytes for one in layers) + rest, 20, layers)


def table(title: str, tables: tuple[OutcomeTable, ...]) -> list[Mapping[str, Any]]:
    (found,) = (list(one.rows) for one in tables if one.title == title)
    return found


def total(rows: list[Mapping[str, Any]], key: str) -> float:
    return sum(row[key] or 0 for row in rows)


def test_without_a_baseline_the_bytes_add_up_to_the_file() -> None:
    model = facts(layer("a", 10), layer("b", 300), layer("c", 20, "Gemm"), layer("r", 0, "Relu"), rest=7)
    tables = breakdown(model, None, None)
    assert [one.title for one in tables] == ["bytes by operator", "bytes by layer"]
    assert table("bytes by operator", tables) == [
        {"operator": "Conv", "bytes": 310},
        {"operator": "Gemm", "bytes": 20},
        {"operator": "(rest of the file)", "bytes": 7},
    ]
    assert [row["layer"] for row in table("bytes by layer", tables)] == [
        "b (Conv)",
        "c (Gemm)",
        "a (Conv)",
        "(rest of the file)",
    ]


@pytest.mark.parametrize("rest", [50, -900])
def test_the_largest_are_listed_and_the_others_are_one_row(rest: int) -> None:
    model = facts(*(layer(f"n{i}", i) for i in range(1, 40)), rest=rest)
    before = facts(*(layer(f"n{i}", 2 * i) for i in range(10, 60)), rest=1)
    rows = table("bytes by layer", breakdown(model, before, None))
    assert len(rows) == TOP + 1
    assert rows[-1]["layer"].startswith("(the other")
    assert total(rows, "bytes") == model.bytes
    assert total(rows, "baseline bytes") == before.bytes
    assert total(rows, "more bytes") == model.bytes - before.bytes


def test_new_gone_and_converted_layers() -> None:
    model = facts(layer("a", 25, "QLinearConv", "int8"), layer("new", 5, "Gemm"))
    before = facts(layer("a", 100), layer("b", 3, "MatMul"))
    tables = breakdown(model, before, None)
    assert table("bytes by layer", tables) == [
        {"layer": "a (QLinearConv, int8)", "bytes": 25, "baseline bytes": 100, "more bytes": -75},
        {"layer": "new (Gemm)", "bytes": 5, "baseline bytes": None, "more bytes": 5},
        {"layer": "b (MatMul)", "bytes": None, "baseline bytes": 3, "more bytes": -3},
    ]
    assert table("bytes by operator", tables) == [
        {"operator": "QLinearConv", "bytes": 25, "baseline bytes": None, "more bytes": 25},
        {"operator": "Gemm", "bytes": 5, "baseline bytes": None, "more bytes": 5},
        {"operator": "Conv", "bytes": None, "baseline bytes": 100, "more bytes": -100},
        {"operator": "MatMul", "bytes": None, "baseline bytes": 3, "more bytes": -3},
    ]


def test_times_with_what_the_runtime_inserted() -> None:
    model, before = facts(layer("x", 1), layer("h", 1, "Gemm")), facts(layer("a", 1), layer("b", 1, "Gemm"))
    times = {
        "model": {"x": 2.0, "+Reorder@x": 0.5, "+Cast": 0.25, "strange": 0.125},
        "baseline": {"a": 1.0, "b": 0.5, "+Reorder@a": 0.25, "+Reorder@gone": 0.0625},
    }
    tables = breakdown(model, before, times)
    rows = {row["layer"]: (row["ms"], row["baseline ms"]) for row in table("ms by layer", tables)}
    assert rows == {
        "x (Conv)": (2.0, 1.0),
        "Reorder (inserted) for x": (0.5, 0.25),
        "Cast (inserted)": (0.25, None),
        "strange": (0.125, None),
        "h (Gemm)": (None, 0.5),
        "Reorder (inserted) for gone": (None, 0.0625),
    }
    operators = {row["operator"]: (row["ms"], row["baseline ms"]) for row in table("ms by operator", tables)}
    assert operators["Reorder (inserted)"] == (0.5, 0.3125)
    for name, key in (("model", "ms"), ("baseline", "baseline ms")):
        for title in ("ms by layer", "ms by operator"):
            assert total(table(title, tables), key) == sum(times[name].values())


def test_times_of_the_model_alone() -> None:
    tables = breakdown(facts(layer("x", 1)), None, {"model": {"x": 2.0}})
    assert table("ms by layer", tables) == [{"layer": "x (Conv)", "ms": 2.0}]


def test_a_baseline_without_layers() -> None:
    rows = table("bytes by layer", breakdown(facts(layer("x", 1)), facts(rest=2), None))
    assert total(rows, "more bytes") == -1
    assert breakdown(facts(), None, {"model": {}})[1].rows == ()
