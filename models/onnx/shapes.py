"""Shapes and types of all values of an ONNX model, also behind operators that only onnxruntime knows."""

from collections.abc import Iterator, Mapping, Sequence

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, shape_inference

from paredown.models.onnx.edit import copy_of_model
from paredown.models.onnx.walk import all_graphs, all_nodes

Shape = tuple[int, ...]

STAND_INS: Mapping[str, tuple[str, Sequence[int]]] = {
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Sigmoid", (0,)),
    "QLinearLeakyRelu": ("LeakyRelu", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearSoftmax": ("Softmax", (0,)),
    "QLinearConcat": ("Concat", range(2, 1000, 3)),
    "QGemm": ("Gemm", (0, 3)),
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "FusedMatMul": ("MatMul", (0, 1)),
}
"""Operators of onnxruntime's own to one of ONNX's whose value has the same shape, and the inputs that it takes."""


def shapes_and_types(model: ModelProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """Value to its shape, where that is fixed (an open batch counts as 1), and to its element type."""
    plain = copy_of_model(model)
    constant = {item.name for item in plain.graph.initializer}
    for value in plain.graph.input:
        if value.name not in constant:
            _fix_batch(value)
    for node in all_nodes(plain):
        _stand_in(node)
    try:
        inferred = shape_inference.infer_shapes(plain, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        inferred = plain
    values = list(_values(inferred))
    known = {value.name: _sizes(value) for value in values}
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return {name: sizes for name, sizes in known.items() if sizes is not None}, types


def _values(model: ModelProto) -> Iterator[ValueInfoProto]:
    for graph in all_graphs(model):
        yield from [*graph.input, *graph.value_info, *graph.output]


def _sizes(value: ValueInfoProto) -> Shape | None:
    """The shape, -1 for what is not fixed in it; None where not even the number of sizes is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


def _fix_batch(value: ValueInfoProto) -> None:
    """An open batch size becomes 1."""
    sizes = value.type.tensor_type.shape.dim
    if sizes and not sizes[0].HasField("dim_value"):
        sizes[0].dim_value = 1


def _stand_in(node: NodeProto) -> None:
    """Turns an operator of onnxruntime's, in place, into the one of ONNX whose value has the same shape."""
    if node.domain in ("", "ai.onnx") or node.op_type not in STAND_INS:
        return
    op, places = STAND_INS[node.op_type]
    inputs = [node.input[place] for place in places if place < len(node.input)]
    known = defs.get_schema(op).attributes
    kept = [attribute for attribute in node.attribute if attribute.name in known]
    del node.input[:], node.attribute[:], node.output[1:]
    node.input.extend(inputs)
    node.attribute.extend(kept)
    node.op_type, node.domain = op, ""


def element_is_float(kind: int) -> bool:
    return kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
