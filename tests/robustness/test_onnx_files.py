"""ONNX files of strangers are opened, or refused in one line that names the file; no runtime has to see the others."""

import copy
import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from paredown.models.errors import InputError
from paredown.models.onnx.checked_file import files_of, open_checked
from paredown.models.onnx.edit import load_onnx
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

NUMBERS = (0, 1, -1, 7, 99, 10**6, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "a", "logits", "Conv", "Loop", "Resize", "Tile", "own", "\n\x1b[2J", "../x", "A" * 1000)
ELSEWHERE = ("../secret", "/etc/passwd", "a/../../secret", "", ".", "link", "folder/secret", "pipe", "none", "C:\\x")
IMAGES = np.zeros((1, 3, 8, 8), np.float32)

Refused = Callable[[Callable[[], object]], str]
Peak = Callable[[Callable[[], object]], tuple[str, float]]


def sound() -> ModelProto:
    """A network with a bit of everything: int8, a branch, a function, a constant in a node."""
    rng = np.random.default_rng(0)
    branches = {"then_branch": branch("Identity", "t", ""), "else_branch": branch("F", "o", "own")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["p"], "pool"),
        helper.make_node("Constant", [], ["s"], "shape", value=numpy_helper.from_array(np.array([1, -1]))),
        helper.make_node("Reshape", ["p", "s"], ["f"], "flat"),
        helper.make_node("QuantizeLinear", ["f", "scale", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "d"),
        helper.make_node("Gemm", ["d", "fc"], ["l"], "fc"),
        helper.make_node("If", ["yes"], ["logits"], "if", **branches),
    ]
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "fc": rng.standard_normal((4, 3)).astype(np.float32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(3, np.uint8),
        "yes": np.array(True),
    }
    x, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 8, 8]), ("logits", [1, 3]))
    )
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [logits], held)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    own = helper.make_function("own", "F", ["in"], ["out"], [helper.make_node("Neg", ["in"], ["out"])], opsets[:1])
    return helper.make_model(graph, opset_imports=opsets, functions=[own], ir_version=10)


def branch(op: str, gives: str, domain: str) -> GraphProto:
    """A graph of one node for an `If`."""
    node = helper.make_node(op, ["l"], [gives], f"in_{gives}", domain=domain)
    return helper.make_graph([node], gives, [], [helper.make_tensor_value_info(gives, TensorProto.FLOAT, [1, 3])])


def written(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def messages(model: ModelProto) -> list[Any]:
    """The model and everything in it."""
    found: list[Any] = [model]
    for message in found:
        for field, value in message.ListFields():
            if field.message_type:
                found += [value] if hasattr(value, "ListFields") else list(value)
    return found


def changed(model: ModelProto, rng: random.Random) -> ModelProto:
    """One to three fields of the model made into something else that protobuf can hold."""
    fresh = ModelProto()
    fresh.CopyFrom(model)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        message = rng.choice(messages(fresh))
        fields = [field for field, _ in message.ListFields()]
        field = rng.choice(fields) if fields and rng.random() < 0.8 else rng.choice(list(message.DESCRIPTOR.fields))
        change(message, field, fresh, rng)
    return fresh


def change(message: Any, field: Any, model: ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.2:
        message.ClearField(field.name)
        return
    held = getattr(message, field.name)
    if not hasattr(held, "extend"):
        if field.message_type:
            held.SetInParent()
        else:
            setattr(message, field.name, value_for(field, rng))
        return
    place, way = (rng.randrange(len(held)) if len(held) else None), rng.random()
    if place is None or way < 0.3:
        held.add() if field.message_type else held.append(value_for(field, rng))
    elif way < 0.5:
        del held[place]
    elif field.message_type:
        alike = [one for one in messages(model) if one.DESCRIPTOR is field.message_type]
        other = copy.deepcopy(rng.choice(alike if way < 0.8 else [held[place]]))  # it may hold the one that it replaces
        held[place].CopyFrom(other) if way < 0.8 else held.append(other)
    else:
        held[place] = value_for(field, rng)


def value_for(field: Any, rng: random.Random) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_INT32 | field.CPPTYPE_ENUM:
            known = field.enum_type.values_by_number if field.enum_type else None
            return rng.choice(list(known) if known else [0, 1, -1, 2**31 - 1, -(2**31)])
        case field.CPPTYPE_INT64:
            return rng.choice(NUMBERS)
        case field.CPPTYPE_UINT64 | field.CPPTYPE_UINT32:
            return rng.choice([0, 1, 2**32 - 1])
        case field.CPPTYPE_FLOAT | field.CPPTYPE_DOUBLE:
            return rng.choice([0.0, float("nan"), float("inf"), -1e38])
    return rng.randbytes(rng.choice([0, 1, 4, 432])) if field.type == field.TYPE_BYTES else rng.choice(TEXTS)


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, taken out or put in, or the end cut off."""
    fresh = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, way = rng.randrange(len(fresh) or 1), rng.random()
        if way < 0.6 and fresh:
            fresh[at] = rng.randrange(256)
        elif way < 0.75:
            del fresh[at : at + rng.choice([1, 5, 50])]
        elif way < 0.85:
            del fresh[at:]
        else:
            fresh[at:at] = rng.randbytes(rng.choice([1, 4]))
    return bytes(fresh)


def opened_and_run(path: Path) -> None:
    """What is opened can be shown, and onnxruntime takes it or says why not; it never ends the process."""
    model = open_checked(path)
    assert all(isinstance(node.name, str) for node in model.graph.node)
    assert len(numpy_helper.to_array(model.graph.initializer[0])) >= 0 if model.graph.initializer else True
    OnnxRuntime().run(path, [IMAGES], 1)


def test_the_sound_one_is_opened_and_runs(tmp_path: Path) -> None:
    path = written(sound(), tmp_path / "model.onnx")
    assert open_checked(path) == sound()
    assert OnnxRuntime().run(path, [IMAGES], 1).shape == (1, 3)
    assert files_of(path) == (path,)


def test_changed_fields(fuzz: Any, tmp_path: Path) -> None:
    model = sound()
    fuzz(
        st.integers(0, 2**32),
        250,
        lambda seed: opened_and_run(written(changed(model, random.Random(seed)), tmp_path / "model.onnx")),
    )


@pytest.mark.parametrize("opens", [open_checked, load_onnx])
def test_changed_bytes(opens: Callable[[Path], object], fuzz: Any, tmp_path: Path) -> None:
    path, content = tmp_path / "model.onnx", sound().SerializeToString()

    def attempt(seed: int) -> None:
        path.write_bytes(bytes_changed(content, random.Random(seed)))
        opens(path)

    fuzz(st.integers(0, 2**32), 150, attempt)


def test_any_bytes(fuzz: Any, tmp_path: Path) -> None:
    def attempt(content: bytes) -> None:
        for name in ("model.onnx", "model.onnx.gz"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=name):
                open_checked(tmp_path / name)

    fuzz(st.binary(max_size=300), 100, attempt)


def with_tensor(**changes: Any) -> ModelProto:
    model = sound()
    for name, value in changes.items():
        if name == "dims":
            model.graph.initializer[0].dims[:] = value
        else:
            setattr(model.graph.initializer[0], name, value)
    return model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dims": [2**40, 2**40]}, "1099511627776x1099511627776 and 432 bytes of data"),
        ({"dims": [-4, 3, 3, 3]}, "has the shape -4x3x3x3"),
        ({"dims": [1] * 100}, "has the shape 1x1"),
        ({"data_type": 99}, "has the unknown type 99"),
        ({"data_type": TensorProto.UNDEFINED}, "has the unknown type 0"),
        ({"data_type": TensorProto.FLOAT16}, "216 bytes are needed"),
        ({"raw_data": b""}, "0 bytes of data; 432 bytes are needed"),
    ],
)
def test_tensors_that_are_not_what_they_say(
    changes: dict[str, Any], expected: str, refused: Refused, tmp_path: Path
) -> None:
    path = written(with_tensor(**changes), tmp_path / "model.onnx")
    line = refused(lambda: open_checked(path))
    assert line.startswith(f"{path}: ")
    assert expected in line


def test_a_part_of_a_tensor(refused: Refused, tmp_path: Path) -> None:
    model = sound()
    model.graph.initializer[0].segment.begin = 1
    assert "one segment of a larger one" in refused(lambda: open_checked(written(model, tmp_path / "model.onnx")))


def external(location: str, **more: str) -> ModelProto:
    """The model with its first weight in a file beside it."""
    model = sound()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    data = sound().graph.initializer[0].raw_data
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"1234" + data)
    path = written(external("weights/w.bin", offset="4", length=str(len(data))), tmp_path / "model.onnx")
    assert open_checked(path).graph.initializer[0].raw_data == data
    assert files_of(path) == (path, tmp_path / "weights" / "w.bin")


@pytest.mark.parametrize("location", ELSEWHERE)
def test_external_data_from_elsewhere_is_not_read(location: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(432))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    path = written(external(location), folder / "model.onnx")
    for opens in (open_checked, files_of):
        assert repr(location)[1:-1] in refused(lambda opens=opens: opens(path))  # type: ignore[misc]


@pytest.mark.parametrize(
    "numbers",
    [{"offset": "-1"}, {"offset": "1"}, {"length": "5"}, {"length": "9" * 30}, {"offset": "1e9"}, {"offset": "1" * 19}],
)
def test_external_data_out_of_bounds(numbers: dict[str, str], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(432))
    path = written(external("w.bin", **numbers), tmp_path / "model.onnx")
    assert "its tensor 'w'" in refused(lambda: open_checked(path))


def test_external_data_in_a_container(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(432))
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(external("w.bin").SerializeToString()))
    assert "a file in a container cannot have external data" in refused(lambda: open_checked(path))


def test_a_large_tensor_in_a_small_file_many_times(refused: Refused, tmp_path: Path) -> None:
    """Each is there, in a file full of holes; together they are more than a model may be."""
    size = 2**30
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(size)
    model = external("w.bin")
    first = model.graph.initializer[0]
    first.dims[:] = [size // 4]
    for number in range(3):
        model.graph.initializer.append(first)
        model.graph.initializer[-1].name = f"w{number}"
    path = written(model, tmp_path / "model.onnx")
    assert "with its external data it has more than 2147483647 bytes" in refused(lambda: open_checked(path))


def chain(calls: int, length: int) -> ModelProto:
    """Functions of which each calls the next one `calls` times; the last one calls itself where `calls` is 1."""
    model = sound()
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    for number in range(length):
        called = f"F{min(number + 1, length - 1)}" if calls == 1 or number + 1 < length else "F"
        nodes = [helper.make_node(called, ["in"], [f"out{i or ''}"], domain="own") for i in range(calls)]
        model.functions.append(helper.make_function("own", f"F{number}", ["in"], ["out"], nodes, opsets))
    return model


@pytest.mark.parametrize(
    ("calls", "length", "expected"),
    [(1, 3, "calls itself"), (1, 90, "calls itself"), (2, 45, "more than 1000000 nodes")],
)
def test_functions_that_never_end(calls: int, length: int, expected: str, refused: Refused, tmp_path: Path) -> None:
    path = written(chain(calls, length), tmp_path / "model.onnx")
    assert expected in refused(lambda: open_checked(path))


def test_a_cycle(refused: Refused, tmp_path: Path) -> None:
    model = sound()
    model.graph.node[0].input[0] = "b"
    assert "no sound ONNX" in refused(lambda: open_checked(written(model, tmp_path / "model.onnx")))


def test_a_loop_is_refused(refused: Refused, tmp_path: Path) -> None:
    model = sound()
    model.graph.node[1].op_type = "Loop"
    assert "is a Loop" in refused(lambda: open_checked(written(model, tmp_path / "model.onnx")))


def test_graphs_in_graphs(refused: Refused, tmp_path: Path) -> None:
    """Protobuf itself reads a hundred levels."""
    content = b""
    for _ in range(200):  # NodeProto.attribute { g { node } }
        for tag in (b"\x0a", b"\x32", b"\x2a"):
            content = tag + _VarintBytes(len(content)) + content
    for tag in (b"\x0a", b"\x3a"):
        content = tag + _VarintBytes(len(content)) + content
    (tmp_path / "model.onnx").write_bytes(content)
    assert "no ONNX file" in refused(lambda: open_checked(tmp_path / "model.onnx"))


def test_names_that_are_no_text(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sound().SerializeToString().replace(b"relu", b"\xff\xfe\xfd\xfc"))
    assert "a name that is not text in UTF-8" in refused(lambda: open_checked(path))


@pytest.mark.parametrize("shape", [[1, 3, 2**31, 2**31], [1, 3, -8, 8]])
def test_absurd_inputs(shape: list[int], refused: Refused, tmp_path: Path) -> None:
    model = sound()
    for size, value in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        size.dim_value = value
    path = written(model, tmp_path / "model.onnx")
    assert str(shape[2]) in refused(lambda: open_checked(path))


def test_a_constant_that_is_made_large(refused: Refused, tmp_path: Path) -> None:
    """A shape of two numbers: runtimes make the tensor while they open the file."""
    model = sound()
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**20]), "huge"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["zeros"], "huge"))
    assert "1048576x1048576" in refused(lambda: open_checked(written(model, tmp_path / "model.onnx")))


def test_a_sparse_tensor_that_is_made_large(refused: Refused, tmp_path: Path) -> None:
    model = sound()
    values, indices = numpy_helper.from_array(np.ones(1, np.float32), "s"), numpy_helper.from_array(np.array([5]), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**14, 2**14]))
    assert "sparse tensors unpack to" in refused(lambda: open_checked(written(model, tmp_path / "model.onnx")))


@pytest.mark.parametrize("opens", [open_checked, load_onnx, lambda path: OnnxRuntime().run(path, [IMAGES], 1)])
def test_a_container_that_unpacks_to_gigabytes(opens: Callable[[Path], object], peak_of: Peak, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(128 * gzip.compress(bytes(2**24)))
    assert path.stat().st_size < 3 * 2**20
    answer, more = peak_of(lambda: opens(path))
    assert answer == "refused"
    assert more < 600


@pytest.mark.parametrize("content", ["parts", "zeros"])
def test_a_file_of_nothing_but_parts(content: str, peak_of: Peak, tmp_path: Path) -> None:
    """Millions of empty nodes would take gigabytes; a hole of gigabytes takes no room on the disk."""
    path = tmp_path / "model.onnx"
    inside = b"\x0a\x00" * 1_200_000
    path.write_bytes(b"\x3a" + _VarintBytes(len(inside)) + inside)
    if content == "zeros":
        os.truncate(path, 2**33)
    answer, more = peak_of(lambda: open_checked(path))
    assert answer == "refused"
    assert more < 50


def test_what_is_no_file(refused: Refused, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "none.onnx", *tmp_path.iterdir(), Path("a\0b.onnx"), Path("a" * 5000)):
        assert "\n" not in refused(lambda path=path: open_checked(path))  # type: ignore[misc]
