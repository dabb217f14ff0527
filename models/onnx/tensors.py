"""Tensors of an untrusted ONNX file: their data is what the shapes say, and external data lies beside the file."""

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from onnx import ModelProto, TensorProto

from paredown.models.loading.gzip_container import LARGEST, allowed_bytes
from paredown.models.onnx.walk import all_sparse, all_tensors
from paredown.models.onnx.wire import RefusedError

BITS = {
    "FLOAT": 32,
    "DOUBLE": 64,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    **{f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)},
    "BOOL": 8,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    "FLOAT4E2M1": 4,
    "STRING": 0,
}
"""Of one element, by the type's name; texts lie elsewhere."""
MOST_SIZES = 64
"""Of one shape."""
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def read_tensors(model: ModelProto, path: Path) -> None:
    """Checks every tensor, and reads external data into the model, in all no more than a model may have.

    Raises RefusedError for data that is not what shape and type say.
    """
    left, beside = LARGEST - model.ByteSize(), []
    for tensor in all_tensors(model):
        needed = _needed(tensor)
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_data(tensor, needed)
            continue
        left -= needed
        if left < 0:
            raise RefusedError(f"with its external data it has more than {LARGEST} bytes")
        beside.append((tensor, needed))
    _check_sparse(model)
    for tensor, needed in beside:
        _read_external(tensor, external_file(tensor, path), needed)


def external_file(tensor: TensorProto, path: Path) -> Path:
    """The file of a tensor's external data: a plain relative path to a real file in the folder of `path`."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    where = f"its tensor {tensor.name!r} lies in {location!r}"
    parts = PurePosixPath(location).parts
    if not parts or parts[0] == "/" or ".." in parts or any(odd in location for odd in "\\:\0"):
        raise RefusedError(f"{where}; allowed is a path inside of the file's own folder")
    if path.suffix == ".gz":
        raise RefusedError(f"{where}; a file in a container cannot have external data")
    file = path.parent
    for part in parts:
        file /= part
        if file.is_symlink():
            raise RefusedError(f"{where}, behind a symbolic link; allowed is a file inside of the file's own folder")
    if not file.is_file():
        raise RefusedError(f"{where}, which is no file")
    return file


def type_name(number: int) -> str:
    """Empty for types that are not known."""
    known = TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)) if number in known else ""


def shape_text(sizes: Iterable[int]) -> str:
    return "x".join(str(size) for size in list(sizes)[:10]) or "()"


def _needed(tensor: TensorProto) -> int:
    """Bytes that hold the tensor's elements."""
    if type_name(tensor.data_type) not in BITS:
        raise RefusedError(f"its tensor {tensor.name!r} has the unknown type {tensor.data_type}")
    return _bytes(tensor.data_type, tensor.dims, tensor.name)


def _bytes(kind: int, dims: Iterable[int], name: str) -> int:
    sizes = list(dims)
    if any(size < 0 for size in sizes) or len(sizes) > MOST_SIZES:
        raise RefusedError(f"its tensor {name!r} has the shape {shape_text(sizes)}")
    return -(-math.prod(sizes) * BITS[type_name(kind)] // 8)


def _check_data(tensor: TensorProto, needed: int) -> None:
    """Refuses a tensor whose data is not what its shape says."""
    if tensor.HasField("segment"):
        raise RefusedError(f"its tensor {tensor.name!r} is one segment of a larger one, which nothing reads")
    kind, count = type_name(tensor.data_type), math.prod(tensor.dims)
    filled = [name for name in _FIELDS if len(getattr(tensor, name))]
    if len(filled) + tensor.HasField("raw_data") > 1:
        raise RefusedError(f"its tensor {tensor.name!r} has its data twice")
    if tensor.HasField("raw_data"):
        got, wanted, unit = len(tensor.raw_data), needed, "bytes"
    else:
        got, unit = (len(getattr(tensor, filled[0])) if filled else 0), "numbers"
        wanted = needed if 0 < BITS[kind] < 8 else count * (2 if kind.startswith("COMPLEX") else 1)
    if got != wanted:
        mismatch = f"{kind} {shape_text(tensor.dims)} and {got} {unit} of data; {wanted} {unit} are needed"
        raise RefusedError(f"its tensor {tensor.name!r} is {mismatch}")


def _check_sparse(model: ModelProto) -> None:
    """What runtimes unpack to dense tensors may not be out of proportion to the file."""
    most, total = allowed_bytes(model.ByteSize()), 0
    for one in all_sparse(model):
        total += _bytes(one.values.data_type, one.dims, one.values.name)
        if total > most:
            raise RefusedError(f"its sparse tensors unpack to more than {most} bytes")


def _read_external(tensor: TensorProto, file: Path, needed: int) -> None:
    where = f"its tensor {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [entries.get("offset") or "0", entries.get("length") or str(needed)]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
        raise RefusedError(f"{where} has no sound offset and length in {file.name!r}")
    offset, length = map(int, numbers)
    if length != needed or type_name(tensor.data_type) == "STRING":
        raise RefusedError(f"{where} has {length} bytes of external data; {needed} are needed, and no texts")
    try:
        with file.open("rb") as stream:
            if offset + length > stream.seek(0, 2):
                raise RefusedError(f"{where} ends behind the end of {file.name!r}")
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
    except OSError as error:
        raise RefusedError(f"{file.name!r} cannot be read ({error.strerror})") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
