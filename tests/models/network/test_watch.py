"""A traced network that is watched computes what it computes anyway."""

import pytest
import torch
from torch import Tensor

from paredown.models.network.watch import input_of_node, watch_inputs, watch_values
from paredown.stages.analysis.prepared_model import PreparedModel


@pytest.fixture
def images(prepared: PreparedModel) -> Tensor:
    return torch.randn(2, *prepared.network.shape, generator=torch.Generator().manual_seed(0))


def test_every_value_is_seen_in_order_and_nothing_else_changes(prepared: PreparedModel, images: Tensor) -> None:
    graph, seen = prepared.network.graph, dict[str, Tensor]()
    logits = watch_values(graph, images, seen.__setitem__)
    assert torch.equal(logits, graph(images)) and torch.equal(logits, seen["logits"])
    assert list(seen) == [node.name for node in graph.graph.nodes if node.name in seen]
    assert {layer.value for layer in prepared.network.layers} < set(seen)


def test_only_named_values_are_seen(prepared: PreparedModel, images: Tensor) -> None:
    first, *_, last = prepared.network.layers
    seen: list[tuple[str, tuple[int, ...]]] = []
    watch_values(
        prepared.network.graph, images, lambda name, value: seen.append((name, tuple(value.shape))), {first.value}
    )
    assert seen == [(first.value, (2, first.channels_out, 12, 12))]
    assert last.value not in dict(seen)


def test_inputs_are_what_a_node_reads_first(prepared: PreparedModel, images: Tensor) -> None:
    graph, values, read = prepared.network.graph, dict[str, Tensor](), dict[str, Tensor]()
    watch_values(graph, images, values.__setitem__)
    wanted = {node.name: node.all_input_nodes[0].name for node in graph.graph.nodes if node.op == "call_function"}
    logits = watch_inputs(graph, images, read.__setitem__, wanted)
    assert torch.equal(logits, values["logits"])
    assert all(torch.equal(read[name], values[source]) for name, source in wanted.items()) and len(read) == len(wanted)


def test_an_input_alone_is_found_without_what_is_behind_it(
    prepared: PreparedModel, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = next(layer for layer in prepared.network.layers if layer.name == "pointwise.0")
    values = dict[str, Tensor]()
    watch_values(prepared.network.graph, images, values.__setitem__)
    computed: list[str] = []
    monkeypatch.setattr("torch.fx.Interpreter.call_function", _counted(computed, torch.fx.Interpreter.call_function))
    assert torch.equal(input_of_node(prepared.network.graph, images, layer.value), values[layer.inputs[0]])
    assert 0 < len(computed) < len([n for n in prepared.network.graph.graph.nodes if n.op == "call_function"])
    with pytest.raises(KeyError, match="no node 'nothing'"):
        input_of_node(prepared.network.graph, images, "nothing")


def _counted(computed: list[str], function):  # type: ignore[no-untyped-def]
    def call(self, target, args, kwargs):  # type: ignore[no-untyped-def]
        computed.append(str(target))
        return function(self, target, args, kwargs)

    return call
