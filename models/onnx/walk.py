"""All parts of an ONNX model wherever they lie: also in graphs inside of nodes, in attributes and in functions."""

from collections.abc import Iterable, Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto


def nodes_of(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes with those of the graphs inside of them; protobuf reads no more than 100 levels."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from nodes_of(graph.node)


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    yield from nodes_of(model.graph.node)
    for function in model.functions:
        yield from nodes_of(function.node)


def all_graphs(model: ModelProto) -> Iterator[GraphProto]:
    yield model.graph
    for node in all_nodes(model):
        yield from inner_graphs(node)


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor, also the two that a sparse one consists of."""
    for graph in all_graphs(model):
        yield from graph.initializer
    for attribute in _attributes(model):
        yield from [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    for sparse in all_sparse(model):
        yield from (sparse.values, sparse.indices)


def all_sparse(model: ModelProto) -> Iterator[SparseTensorProto]:
    for graph in all_graphs(model):
        yield from graph.sparse_initializer
    for attribute in _attributes(model):
        yield from [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        yield from attribute.sparse_tensors


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes, such as the branches of an If."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _attributes(model: ModelProto) -> Iterator[AttributeProto]:
    for node in all_nodes(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto
