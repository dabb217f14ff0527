"""Which output of a file holds the scores: taken where only one can be meant, refused in one line else."""

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from paredown.models.errors import InputError
from paredown.models.onnx.answers import keep_output, output_with_scores, outputs_of, scores_of_output

Sizes = Sequence[int | str | None] | None


def tensor(name: str, sizes: Sizes, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def model_of(*outputs: ValueInfoProto, op: str = "own::Head") -> ModelProto:
    """A graph in which every output is made of the input by one node of its own."""
    domain, _, kind = op.rpartition("::")
    nodes = [helper.make_node(kind, ["x"], [one.name], domain=domain) for one in outputs]
    graph = helper.make_graph(nodes, "g", [tensor("x", ["n", 3, 8, 8])], list(outputs))
    return helper.make_model(graph)


def taken(*outputs: ValueInfoProto, picked: str | None = None, classes: int = 4) -> str:
    return output_with_scores(outputs_of(model_of(*outputs)), "m.onnx", classes, picked).name


def refusal(*outputs: ValueInfoProto, picked: str | None = None, classes: int = 4) -> str:
    with pytest.raises(InputError) as caught:
        taken(*outputs, picked=picked, classes=classes)
    text = str(caught.value)
    assert text.startswith("m.onnx: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "sizes", [[1, 4], ["n", 4], [8, 4, 1, 1], ["n", 1, 1, 4], ["n", None], ["n", "c", "h", "w"], None]
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_one_output_that_fits_is_taken(sizes: Sizes, kind: int) -> None:
    assert taken(tensor("scores", sizes, kind)) == "scores"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (tensor("p", ["n", 1]), "its output 'p' (float, n x 1) cannot be judged: it has 1 number per image"),
        (tensor("p", ["n"]), "it has one number per image"),
        (tensor("p", []), "(float, one number)"),
        (tensor("id", ["n", 1], TensorProto.INT64), "it is int64, not float"),
        (tensor("id", ["n", 4], TensorProto.INT64), "it is int64, not float"),
        (tensor("q", ["n", 4], TensorProto.UINT8), "it is uint8, not float"),
        (tensor("big", ["n", 1000]), "it has 1000 numbers per image; allowed is float, batch x 4"),
        (tensor("map", ["n", 4, 7, 7]), "it is a map of scores"),
        (tensor("map", ["n", 4, 7, 1]), "it is a map of scores"),
    ],
)
def test_one_output_that_does_not_fit_is_refused(output: ValueInfoProto, why: str) -> None:
    text = refusal(output)
    assert why in text
    assert text.endswith("allowed is float, batch x 4: one score for each of the data's 4 classes")


@pytest.mark.parametrize("sizes", [["n"], ["n", 1]])
def test_one_probability_of_two_classes_is_refused_with_what_can_be_done(sizes: Sizes) -> None:
    hint = "; of one probability p of the second class two are made: 1 - p and p"
    assert refusal(tensor("p", sizes), classes=2).endswith(hint)
    assert hint not in refusal(tensor("p", sizes))
    assert hint not in refusal(tensor("id", sizes, TensorProto.INT64), classes=2)


def test_sequences_and_maps_are_refused_by_name() -> None:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4])
    listed = helper.make_value_info("listed", helper.make_sequence_type_proto(element))
    plain = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    table = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, plain))
    label = tensor("label", ["n"], TensorProto.INT64)
    assert "'listed' (sequence of float) cannot be judged: it is sequence of float, not float" in refusal(listed)
    text = refusal(label, helper.make_value_info("probabilities", table))
    assert "it has 2 outputs: 'label' (int64, n), 'probabilities' (sequence of map of int64 to float); none is" in text


def test_of_several_outputs_the_first_is_taken_where_no_other_fits() -> None:
    scores, features = tensor("scores", ["n", 4]), tensor("features", ["n", 512])
    assert taken(scores, features, tensor("id", ["n"], TensorProto.INT64)) == "scores"
    assert taken(scores, features, picked="scores") == "scores"
    text = refusal(features, scores)
    assert "it has 2 outputs: 'features' (float, n x 512), 'scores' (float, n x 4)" in text
    assert text.endswith("the key `output` must say which one holds a score per class: `output: scores`")
    assert taken(features, scores, picked="scores") == "scores"


def test_two_outputs_that_fit_are_never_chosen_between() -> None:
    both = tensor("logits", ["n", 4]), tensor("auxiliary", ["n", 4])
    assert refusal(*both).endswith("`output: logits` or `output: auxiliary`")
    assert taken(*both, picked="auxiliary") == "auxiliary"
    assert refusal(*both, picked="none").startswith("m.onnx: output: it has no output 'none'; it has 'logits' (float")
    assert "cannot be judged: it has 512 numbers" in refusal(*both, tensor("f", ["n", 512]), picked="f")


def test_what_topk_gives_is_sorted_and_says_no_class() -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["values", "ids"]),
        helper.make_node("Softmax", ["values"], ["shares"]),
    ]
    outputs = [tensor("shares", ["n", 4]), tensor("ids", ["n", 4], TensorProto.INT64)]
    k = helper.make_tensor("k", TensorProto.INT64, [1], [4])
    model = helper.make_model(helper.make_graph(nodes, "g", [tensor("x", ["n", 4])], outputs, [k]))
    with pytest.raises(InputError, match=r"'shares'.* none is float, batch x 4"):
        output_with_scores(outputs_of(model), "m.onnx", 4, None)
    with pytest.raises(InputError, match="sorted by TopK"):
        output_with_scores(outputs_of(model), "m.onnx", 4, "shares")


def test_sizes_that_are_not_declared_are_inferred() -> None:
    model = model_of(tensor("f", None), op="Flatten")
    (output,) = outputs_of(model)
    assert output.columns == 192
    assert output.misfit(4) == "it has 192 numbers per image"
    assert not output.misfit(None)


def test_one_output_can_be_kept_alone() -> None:
    model = model_of(tensor("a", ["n", 4]), tensor("b", ["n", 2]))
    keep_output(model, "b")
    assert [one.name for one in model.graph.output] == ["b"]


def test_what_a_runtime_answers_is_looked_at_too() -> None:
    given = np.arange(8).reshape(2, 4, 1, 1)
    for kind in (np.float16, np.float32, np.float64):
        scores = scores_of_output(given.astype(kind), 2)
        assert scores.shape == (2, 4)
        assert scores.dtype == np.float32
    for wrong, why in [
        (given, "int64"),
        ([{0: 0.5}], "it is a list, no tensor"),
        (given.astype(np.float32).reshape(1, 8), r"the shape \(1, 8\) for 2 images"),
        (given.astype(np.float32).reshape(2, 2, 2), r"allowed is \(2, classes\)"),
        (np.zeros(2, np.float32), r"the shape \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=why):
            scores_of_output(wrong, 2)
