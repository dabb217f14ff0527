"""Deterministic checks: exact, and they name the layers."""

from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.facts import model_facts
from paredown.pipeline.gate.budgets import Budgets
from paredown.pipeline.gate.outcome import BudgetCheck
from paredown.pipeline.gate.static import static_checks

Bench = Any


def checks(budgets: dict[str, Any], model: Any, baseline: Any = None) -> list[BudgetCheck]:
    old = model_facts(baseline) if baseline else None
    return list(static_checks(Budgets.model_validate(budgets), model_facts(model), old))


def test_the_same_file_holds_every_factor_of_one(bench: Bench) -> None:
    names = ("bytes", "parameters", "macs", "unquantized")
    found = checks(dict.fromkeys(names, "1x"), bench.int8, bench.int8)
    assert [(check.name, check.verdict, check.ratio or 1) for check in found] == [(name, "pass", 1) for name in names]


def test_one_byte_too_many_fails(bench: Bench) -> None:
    size = bench.int8.stat().st_size
    found = checks({"bytes": [f"{size} B", f"{size - 1} B"]}, bench.int8)
    assert [check.verdict for check in found] == ["pass", "fail"]
    assert "1 B over its limit" in found[1].because


def test_one_layer_in_float_is_named(bench: Bench) -> None:
    size, fp32 = checks({"bytes": "1.02x", "unquantized": "1x"}, bench.one, bench.int8)
    assert size.verdict == fp32.verdict == "fail"
    assert size.layers[0].startswith("block.conv2 (Conv, fp32) +")
    assert fp32.layers == ("block.conv2 (Conv, fp32)",)
    assert (fp32.before, fp32.after, fp32.allowed) == (0, 1, 0)


def test_without_a_baseline_the_largest_layers_are_named(bench: Bench) -> None:
    (check,) = checks({"parameters": 100}, bench.int8)
    assert check.verdict == "fail"
    assert check.layers[0] == "block.conv1 (Conv, int8) 4640"
    assert check.layers[-1].startswith("and ")


def test_operators_are_counted_and_listed(bench: Bench) -> None:
    none, some = checks({"ops": {"Relu": 0, "Conv": "1x"}}, bench.int8, bench.fp32)
    assert (none.name, none.verdict, none.after) == ("ops Relu", "fail", 4)
    assert some.verdict == "pass"
    assert checks({"operators": ["standard"]}, bench.int8)[0].verdict == "pass"
    (check,) = checks({"operators": ["Conv", "Relu", "Add", "Gemm"]}, bench.fp32)
    assert check.because == "not allowed: Clip, GlobalAveragePool, Reshape"
    assert check.verdict == "fail"


def test_of_too_many_operators_the_new_ones_are_named(bench: Bench) -> None:
    (check,) = checks({"ops": {"QuantizeLinear": "1x"}}, bench.int8, bench.fp32)
    assert check.layers[0] == "new x.q (QuantizeLinear)"
    assert (check.before, check.after, check.verdict) == (0, 9, "fail")


def test_the_opset_has_a_ceiling(bench: Bench) -> None:
    assert [check.verdict for check in checks({"opset": [20, 19]}, bench.int8)] == ["pass", "fail"]


def test_what_no_file_says_is_refused_with_the_place(bench: Bench, models: Any) -> None:
    for value in (models["fp32"].graph.input[0], *models["fp32"].graph.value_info):
        for size in value.type.tensor_type.shape.dim[2:]:
            size.dim_param = "side"
    del models["fp32"].graph.value_info[:]
    save_onnx(models["fp32"], bench.folder / "open.onnx")
    with pytest.raises(InputError, match=r"budgets\.macs cannot be told: the shapes at stem\.0 \(Conv, fp32\)"):
        checks({"macs": 100}, bench.open)
