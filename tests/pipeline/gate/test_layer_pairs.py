"""Which layer of the model is which of the baseline, and what grew."""

from collections.abc import Sequence

import pytest

from paredown.models.onnx.facts import LayerFacts, ModelFacts
from paredown.pipeline.gate.layer_pairs import layers_that_grew, paired_layers


def layer(name: str, size: int = 100, op: str = "Conv", precision: str = "") -> LayerFacts:
    return LayerFacts(name, op, size, size // 4, size * 10, precision)


def facts(layers: Sequence[LayerFacts]) -> ModelFacts:
    return ModelFacts(sum(one.bytes for one in layers), 20, tuple(layers))


def names(model: ModelFacts, baseline: ModelFacts) -> list[tuple[str | None, str | None]]:
    return [(one and one.name, before and before.name) for one, before in paired_layers(model, baseline)]


def test_layers_are_paired_by_name_whatever_became_of_them() -> None:
    before = facts([layer("a"), layer("b"), layer("c"), layer("d")])
    after = facts([layer("d"), layer("q", 2, "QuantizeLinear"), layer("b", 25, "QLinearConv", "int8"), layer("a", 300)])
    assert names(after, before) == [("d", "d"), ("q", None), ("b", "b"), ("a", "a"), (None, "c")]


def test_names_of_another_exporter_are_paired_in_order_of_the_operator() -> None:
    before = facts([layer("a"), layer("r", 0, "Relu"), layer("b", 200), layer("h", 8, "Gemm")])
    after = facts(
        [layer("x"), layer("y", 60, "QLinearConv"), layer("z", 0, "Relu"), layer("w", 2, "com.microsoft::QGemm")]
    )
    assert names(after, before) == [("x", "a"), ("y", "b"), ("z", "r"), ("w", "h")]


def test_a_layer_put_in_between_does_not_shift_the_rest() -> None:
    sizes = [40, 80, 120, 160, 200]
    before = facts([layer(f"a{size}", size) for size in sizes])
    after = facts([layer(f"b{size}", size) for size in [40, 80, 1000, 120, 160, 200]])
    assert layers_that_grew(after, before, lambda one: one.bytes) == [("new b1000 (Conv)", 1000.0)]


def test_only_what_grew_is_named_largest_first() -> None:
    before = facts([layer("a"), layer("b"), layer("c"), layer("d"), layer("e")])
    after = facts([layer("a", 130), layer("b", 90), layer("c", 400, precision="fp32"), layer("d"), layer("n", 50)])
    found = layers_that_grew(after, before, lambda one: one.bytes)
    assert found == [("c (Conv, fp32)", 300.0), ("new n (Conv)", 50.0), ("a (Conv)", 30.0)]


def test_the_measure_decides() -> None:
    before, after = facts([layer("a", precision="int8")]), facts([layer("a", 300, precision="fp32")])
    assert layers_that_grew(after, before, lambda one: one.precision == "fp32") == [("a (Conv, fp32)", 1.0)]
    assert layers_that_grew(before, after, lambda one: one.precision == "fp32") == []


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_pair_with(count: int) -> None:
    some, none = facts([layer("a")][:count]), facts([])
    assert names(some, none) == [("a", None)][:count]
    assert names(none, some) == [(None, "a")][:count]
    assert layers_that_grew(none, some, lambda one: one.bytes) == []


def test_names_that_occur_twice_are_paired_in_order() -> None:
    before = facts([layer("a", 4), layer("a", 8), layer("b")])
    after = facts([layer("a", 4), layer("a", 40), layer("a", 2), layer("b")])
    found = [(one and one.bytes, was and was.bytes) for one, was in paired_layers(after, before)]
    assert found == [(4, 4), (40, 8), (2, None), (100, 100)]


@pytest.mark.parametrize("prefix", ["", "other"])
def test_every_layer_is_in_exactly_one_pair(prefix: str) -> None:
    before = facts([layer(f"n{i}", i % 7, ["Conv", "Relu", "Gemm"][i % 3]) for i in range(3000)])
    after = facts([layer(f"{prefix}n{i}", i % 5, ["Conv", "Gemm", "Relu"][i % 3]) for i in range(100, 2500)])
    pairs = paired_layers(after, before)
    assert [one for one, _ in pairs if one] == list(after.layers)
    assert sorted(was.name for _, was in pairs if was) == sorted(one.name for one in before.layers)
