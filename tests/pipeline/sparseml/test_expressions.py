"""Arithmetic in text: what is computed, and that nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.pipeline.sparseml.expressions import evaluate_expression, expression_in, with_evaluated


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs - 1", 9),
        ("-(epochs // 3) + 2 ** 3", 5),
        ("round(epochs * 0.26, 1)", 2.6),
        ("max(epochs, int(12.7)) % 5", 2),
        ("float(3) / 2", 1.5),
        ("names", ["a", "b"]),
    ],
)
def test_what_is_computed(text: str, value: object) -> None:
    assert evaluate_expression(text, {"epochs": 10, "names": ["a", "b"]}) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs.real", "holds 'epochs.real'; allowed: numbers"),
        ("__import__('os')", "holds"),
        ("[1][0]", "holds"),
        ("True", "holds 'True'"),
        ("names + 1", "uses names, which is no number; known: epochs"),
        ("gone + 1", "uses gone"),
        ("1 / 0", "cannot be computed"),
        ("(-1) ** 0.5", "no number"),
        ("9 ** 9 ** 9", "to the power"),
        ("9e9 ** 9", "beyond"),
        ("1e999", "beyond"),
        ("min(1)", "cannot be computed"),
        ("round(1, ndigits=2)", "holds"),
        ("round(1, -999999999)", "rounds to -999999999 digits"),
        ("1 +", "is no arithmetic"),
        ("1" * 201, "longer than 200"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected.replace("(", r"\(").replace("*", r"\*")):
        evaluate_expression(text, {"epochs": 10, "names": ["a"]})


def test_only_whole_texts_are_expressions() -> None:
    assert expression_in("eval( 1 + 1 )") == "1 + 1"
    assert expression_in("eval(") is expression_in("x eval(1)") is expression_in(3) is None


def test_variables_may_use_each_other_in_any_order() -> None:
    known, failed = with_evaluated({"c": "eval(a + b)", "b": "eval(a * 2)", "a": 2, "d": "eval(d)", "e": "text"})
    assert known == {"a": 2, "b": 4, "c": 6, "e": "text"}
    assert failed == {"d": "uses d, which is no number; known: a, b, c"}


def test_growing_variables_end_at_the_bound() -> None:
    chain = {"a0": 9} | {f"a{i}": f"eval(a{i - 1} * a{i - 1} * a{i - 1})" for i in range(1, 19)}
    assert "beyond" in with_evaluated(chain)[1]["a3"]
    many = {f"a{i}": "eval(1)" for i in range(300)}
    assert "more than 200" in with_evaluated(many)[1]["a0"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("0123456789.+-*/%(),e abx_[]'\"=:"), max_size=30))
def test_odd_texts_end_in_one_line(text: str) -> None:
    try:
        value = evaluate_expression(text, {"a": 2})
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert abs(value) <= 1e15
