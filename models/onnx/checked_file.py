"""Opens ONNX files of unknown origin: all that can be checked without running them is, in bounded memory.

What runtimes make of an unsound file ranges from an error to the end of the process, so they should see only files that
came through here. A sound one can still ask for much work: what a network computes shows when it runs.
"""

import math
import stat
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from paredown.models.errors import InputError, first_line
from paredown.models.files import refuse_pointer
from paredown.models.loading.gzip_container import LARGEST, ContainerError, unpacked_bytes
from paredown.models.onnx.order import sort_model
from paredown.models.onnx.tensors import BITS, MOST_SIZES, external_file, read_tensors, shape_text, type_name
from paredown.models.onnx.walk import all_graphs, all_nodes, all_tensors, nodes_of
from paredown.models.onnx.wire import RefusedError, check_wire

MOST_NODES = 1_000_000
"""With every function written out where it is called."""
DEEPEST = 50
"""Functions that call functions."""
_SMALL = 4096
"""Elements of a constant that the inference of shapes may read."""

Name = tuple[str, str]


def open_checked(path: Path) -> ModelProto:
    """The model in `path` (`.onnx`, or `.onnx.gz` in a container) with its external data read into it.

    Checked are sizes, types and shapes of all tensors, that external data lies beside the file, that the graph is sound
    (operators, no cycles, names, functions that end), and that no value whose shape is known is larger than a model may
    be.
    Raises InputError with one line that names the file. Takes memory of a few times the file's size.
    """
    refuse_pointer(path)
    try:
        model = parse_model(read_content(path))
        _check_functions(model)
        _check_operators(model)
        read_tensors(model, path)
        _check_graph(model)
        _check_values(model)
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error
    return model


def files_of(path: Path) -> tuple[Path, ...]:
    """The file and those that hold its external data, each once. Raises InputError as `open_checked` does."""
    try:
        tensors = all_tensors(parse_model(read_content(path)))
        beside = {external_file(tensor, path) for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL}
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error
    return (path, *sorted(beside))


def read_content(path: Path) -> bytes:
    """A file's bytes, unpacked. Raises RefusedError for what is no file, or larger than a model can be."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError("it is no file")
        if status.st_size > LARGEST:
            raise RefusedError(f"it has {status.st_size} bytes; allowed are {LARGEST}, and external data beside it")
        return unpacked_bytes(path) if path.suffix == ".gz" else path.read_bytes()
    except ContainerError as error:
        raise RefusedError(str(error)) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise RefusedError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def parse_model(content: bytes) -> ModelProto:
    """A serialized model, its nodes in order. Raises RefusedError for what is none, and for one with too many parts."""
    check_wire(content)
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise RefusedError("it is no ONNX file, or a damaged one") from error
    if not model.HasField("graph"):
        raise RefusedError("it holds no graph, so it is no ONNX model")
    sort_model(model)
    return model


def _check_functions(model: ModelProto) -> None:
    """Refuses functions that call themselves, and those that call others so often that writing them out never ends."""
    bodies = {(one.domain, one.name): one.node for one in model.functions}
    sizes: dict[Name, int] = {}

    def size(name: Name, above: tuple[Name, ...]) -> int:
        if name in above or len(above) > DEEPEST:
            raise RefusedError(f"its function {name[1]!r} calls itself, or others more than {DEEPEST} levels deep")
        if name not in sizes:
            sizes[name] = total(bodies[name], (*above, name))
        return sizes[name]

    def total(nodes: Iterable[NodeProto], above: tuple[Name, ...]) -> int:
        count = 0
        for node in nodes_of(nodes):
            called = (node.domain, node.op_type)
            count += size(called, above) if called in bodies else 1
            if count > MOST_NODES:
                raise RefusedError(f"it has more than {MOST_NODES} nodes with its functions written out")
        return count

    total(model.graph.node, ())
    for name in bodies:
        size(name, ())


def _check_operators(model: ModelProto) -> None:
    for node in all_nodes(model):
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            raise RefusedError(f"its node {node.name!r} is a Loop, which may never end")


def _check_graph(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise RefusedError(f"it is no sound ONNX: {first_line(error, 300)}") from error


def _check_values(model: ModelProto) -> None:
    """Refuses a graph with a value that is, as far as its shape is known, larger than a whole model may be."""
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise RefusedError(f"its shapes do not fit together: {first_line(error, 300)}") from error
    for graph in all_graphs(inferred):
        for value in [*graph.input, *graph.output, *graph.value_info]:
            _check_value(value)


def _check_value(value: ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    kind = type_name(tensor.elem_type)
    if tensor.elem_type and kind not in BITS:
        raise RefusedError(f"its value {value.name!r} has the unknown type {tensor.elem_type}")
    sizes = [size.dim_value for size in tensor.shape.dim if size.HasField("dim_value")]
    if (
        any(size < 0 for size in sizes)
        or len(sizes) > MOST_SIZES
        or math.prod(sizes) * (BITS.get(kind) or 8) > 8 * LARGEST
    ):
        shape = f"{shape_text(sizes)}; allowed are sizes from 0 on, and {LARGEST} bytes"
        raise RefusedError(f"its value {value.name!r} has the shape {shape}")


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy in which large constants have no data, for what only looks at shapes."""
    large = [one for one in model.graph.initializer if one.HasField("raw_data") and math.prod(one.dims) > _SMALL]
    held = [tensor.raw_data for tensor in large]
    for tensor in large:
        tensor.raw_data = b""
    light = ModelProto()
    light.CopyFrom(model)
    for tensor, data in zip(large, held, strict=True):
        tensor.raw_data = data
    return light
