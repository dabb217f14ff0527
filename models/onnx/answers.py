"""What an ONNX classifier answers: which of its outputs holds one score per class. It is read once from the file, and
holds wherever answers count; what the file leaves open shows when it is run (`scores_of_output`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto

from paredown.models.errors import InputError
from paredown.models.onnx.edit import producers_of_values
from paredown.models.onnx.shapes import element_is_float, shapes_and_types
from paredown.models.onnx.tensors import type_name
from paredown.models.printable import printable

MOST_NAMED = 8
"""Outputs that a complaint lists."""
NAME_LENGTH = 60
"""Characters of an output's name in a complaint."""
ORDER_KEPT = ("Cast", "Flatten", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze", "Unsqueeze")
"""Operators behind which scores stand in the order in which they stood before."""


@dataclass(frozen=True)
class FileOutput:
    """One output of a file: `kind` is its element type (`float`, `int64`), or what it is where it is no tensor; `sizes`
    start with the batch, a text is an open one, and None says that not even their number is known. `is_sorted` says
    that its values stand in the order of their size (TopK), not in that of the classes."""

    name: str
    kind: str
    sizes: tuple[int | str, ...] | None
    is_float: bool = True
    is_sorted: bool = False

    def __str__(self) -> str:
        return f"{printable(self.name, NAME_LENGTH)!r} ({self.form})"

    @property
    def form(self) -> str:
        """`float, batch x 4`."""
        if self.sizes is None:
            return self.kind
        return f"{self.kind}, {' x '.join(map(str, self.sizes)) or 'one number'}"

    @property
    def columns(self) -> int | None:
        """Numbers per image, where all of them lie along one axis; None where that is not known before it runs."""
        if self.sizes is None:
            return None
        fixed = [size for size in self.sizes[1:] if isinstance(size, int)]
        return prod(fixed) if len(fixed) == len(self.sizes) - 1 else None

    def misfit(self, classes: int | None) -> str:
        """Why it holds no score for each of `classes` classes (None: of any number above one); empty where it does, or
        where only running it tells."""
        if not self.is_float:
            return f"it is {self.kind}, not float"
        if self.is_sorted:
            return "it is sorted by TopK, so that its columns are no classes"
        if self.sizes is None:
            return ""
        if len(self.sizes) < 2:
            return "it has one number per image"
        wide = [size for size in self.sizes[1:] if size != 1]
        if len([size for size in wide if isinstance(size, int)]) > 1:
            return "it is a map of scores, not one score per class"
        return _wrong_count(self.columns, classes)


def _wrong_count(columns: int | None, classes: int | None) -> str:
    if columns is None or columns == classes or (classes is None and columns > 1):
        return ""
    return f"it has {columns} number{'s' if columns > 1 else ''} per image"


def outputs_of(model: ModelProto) -> tuple[FileOutput, ...]:
    """All outputs of a model in order."""
    shapes, _ = shapes_and_types(model)
    makers = producers_of_values(model)
    return tuple(_output(value, shapes.get(value.name), _is_sorted(value.name, makers)) for value in model.graph.output)


def _is_sorted(value: str, makers: Mapping[str, NodeProto]) -> bool:
    """Whether a value is what TopK gives, perhaps in another form."""
    for _ in makers:  # no longer way than there are values, also where a damaged graph has a circle
        node = makers.get(value)
        if node is None or node.op_type not in ORDER_KEPT or not node.input:
            return node is not None and node.op_type == "TopK"
        value = node.input[0]
    return False


def _output(value: ValueInfoProto, inferred: Sequence[int] | None, is_sorted: bool) -> FileOutput:
    """`inferred` sizes, of which the batch counts as 1 where it is open, stand in for those that are not declared."""
    if not value.type.HasField("tensor_type"):
        return FileOutput(value.name, _kind(value.type), None, is_float=False)
    tensor = value.type.tensor_type
    declared: list[int | str] | None = None
    if tensor.HasField("shape"):
        declared = [
            size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim
        ]
    elif inferred is not None:
        declared = ["?" if size < 0 or not place else size for place, size in enumerate(inferred)]
    if declared is not None and inferred is not None and len(inferred) == len(declared):
        known = zip(declared[1:], inferred[1:], strict=True)
        declared[1:] = [size if isinstance(size, int) or other < 0 else other for size, other in known]
    sizes = None if declared is None else tuple(declared)
    return FileOutput(value.name, _kind(value.type), sizes, element_is_float(tensor.elem_type), is_sorted)


def _kind(kind: TypeProto) -> str:
    """`float`, `int64`, `sequence of map of int64 to float`."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            return type_name(kind.tensor_type.elem_type).lower() or "of no known type"
        case "sequence_type":
            return f"sequence of {_kind(kind.sequence_type.elem_type)}"
        case "map_type":
            return f"map of {type_name(kind.map_type.key_type).lower()} to {_kind(kind.map_type.value_type)}"
        case "optional_type":
            return f"optional {_kind(kind.optional_type.elem_type)}"
    return "no dense tensor"


def output_with_scores(outputs: Sequence[FileOutput], where: str, classes: int, picked: str | None) -> FileOutput:
    """The output that holds a score for each of `classes` classes: the `picked` one, or without that the only one, or
    the first where no other fits. Raises InputError, which starts with `where`, for every other set of outputs."""
    if picked is not None:
        return _fitting(_named(outputs, where, picked), where, classes)
    if len(outputs) == 1:
        return _fitting(outputs[0], where, classes)
    fitting = [output for output in outputs if not output.misfit(classes)]
    if fitting == [*outputs[:1]]:
        return outputs[0]
    listed = f"{where}: it has {len(outputs)} outputs: {listed_outputs(outputs)}"
    if not fitting:
        raise InputError(f"{listed}; none is {_allowed(classes)}")
    names = " or ".join(f"`output: {printable(one.name, NAME_LENGTH)}`" for one in fitting[:MOST_NAMED])
    raise InputError(f"{listed}; the key `output` must say which one holds a score per class: {names}")


def _named(outputs: Sequence[FileOutput], where: str, picked: str) -> FileOutput:
    for output in outputs:
        if output.name == picked:
            return output
    raise InputError(f"{where}: output: it has no output {picked!r}; it has {listed_outputs(outputs)}")


def _fitting(output: FileOutput, where: str, classes: int) -> FileOutput:
    if why := output.misfit(classes):
        fix = "; of one probability p of the second class two are made: 1 - p and p" if _is_one(output, classes) else ""
        raise InputError(f"{where}: its output {output} cannot be judged: {why}; allowed is {_allowed(classes)}{fix}")
    return output


def _is_one(output: FileOutput, classes: int) -> bool:
    """Whether it may be one probability per image, which says it all of two classes."""
    one = output.sizes is not None and (len(output.sizes) < 2 or output.columns == 1)
    return output.is_float and classes == 2 and one


def _allowed(classes: int) -> str:
    return f"float, batch x {classes}: one score for each of the data's {classes} classes"


def listed_outputs(outputs: Sequence[FileOutput]) -> str:
    """All of them, or the first few and how many more."""
    more = len(outputs) - MOST_NAMED
    return ", ".join(map(str, outputs[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "") or "none"


def keep_output(model: ModelProto, name: str) -> None:
    """Takes away all outputs but one, in place: runtimes answer with the first."""
    kept = [value for value in model.graph.output if value.name == name]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def scores_of_output(given: object, images: int) -> NDArray[np.float32]:
    """What a runtime answered for `images` images as scores (images, columns); sizes of 1 behind the batch are left
    out. Raises ValueError, one phrase, for everything else."""
    if not isinstance(given, np.ndarray):
        raise ValueError(f"it is a {type(given).__name__}, no tensor")
    if given.dtype.kind != "f":
        raise ValueError(f"it is {given.dtype} {given.shape}, not float")
    wide = [size for size in given.shape[1:] if size != 1]
    if given.ndim < 2 or len(given) != images or len(wide) > 1:
        raise ValueError(f"it has the shape {given.shape} for {images} images; allowed is ({images}, classes)")
    scores: NDArray[np.float32] = given.reshape(images, -1).astype(np.float32, copy=False)
    return scores
