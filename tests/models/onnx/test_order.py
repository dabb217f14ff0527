"""Nodes in any order: read as the sorted file is."""

import random
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from paredown.models.compression.qdq import insert_qdq, quantizable_nodes
from paredown.models.errors import InputError
from paredown.models.onnx.checked_file import open_checked
from paredown.models.onnx.edit import copy_of_model, load_onnx, save_onnx
from paredown.models.onnx.facts import model_facts
from paredown.models.onnx.order import sort_model, sorted_places
from paredown.stages.analysis.prepared_model import PreparedModel


def shuffled(model: ModelProto, seed: int) -> ModelProto:
    fresh, nodes = copy_of_model(model), list(copy_of_model(model).graph.node)
    random.Random(seed).shuffle(nodes)
    del fresh.graph.node[:]
    fresh.graph.node.extend(nodes)
    return fresh


@pytest.fixture
def int8(prepared: PreparedModel) -> ModelProto:
    return insert_qdq(prepared.model, quantizable_nodes(prepared.model), prepared.ranges, 8)


@pytest.mark.parametrize("seed", range(4))
def test_an_unsorted_file_has_the_facts_of_the_sorted_one(int8: ModelProto, seed: int, tmp_path: Path) -> None:
    mixed = shuffled(int8, seed)
    save_onnx(int8, tmp_path / "sorted.onnx")
    save_onnx(mixed, tmp_path / "mixed.onnx")
    with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
        onnx.checker.check_model(mixed)
    onnx.checker.check_model(open_checked(tmp_path / "mixed.onnx"))
    first, second = model_facts(tmp_path / "sorted.onnx"), model_facts(tmp_path / "mixed.onnx")
    assert (second.ops, second.parameters, second.macs) == (first.ops, first.parameters, first.macs)
    by_name = [{layer.name: layer for layer in facts.layers} for facts in (first, second)]
    assert {name: layer.precision for name, layer in by_name[1].items()} == {
        name: layer.precision for name, layer in by_name[0].items()
    }


def test_a_sorted_file_stays_as_it_is(int8: ModelProto, tmp_path: Path) -> None:
    save_onnx(int8, tmp_path / "m.onnx")
    assert load_onnx(tmp_path / "m.onnx") == int8


def _model(nodes: list[onnx.NodeProto]) -> ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_what_a_branch_takes_from_around_it_comes_first() -> None:
    """The branches are unsorted too, and read `a`, which is made behind the If."""
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 4])
    inner = [helper.make_node("Relu", ["i"], ["o"]), helper.make_node("Neg", ["a"], ["i"])]
    branch = helper.make_graph(inner, "branch", [], [value])
    choose = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    model = _model([choose, condition, helper.make_node("Relu", ["x"], ["a"], name="relu")])
    sort_model(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Constant", "Relu", "If"]


def test_a_cycle_has_no_order(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    assert sorted_places(nodes) == []
    path = tmp_path / "m.onnx"
    path.write_bytes(_model([*nodes, helper.make_node("Relu", ["b"], ["y"])]).SerializeToString())
    with pytest.raises(InputError, match="no sound ONNX") as caught:
        open_checked(path)
    assert "\n" not in str(caught.value)
