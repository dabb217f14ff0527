"""Maps what onnxruntime's profiler reports back to the nodes of the file.

onnxruntime renames what it rewrites: a convolution in the blocked layout takes the name of the value that
it gives after fusion (`relu_1_nchwc`), a quantized one a number (`features.0.0_token_7`), and so on.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

KERNEL = "_kernel_time"
BLOCKED = re.compile(r"(_bn|_mul)?_nchwc$")
RENAMED = re.compile(r"^fused |_token_\d+$|/duplicated$|/\w+Fusion/?$")
COPIED = "/duplicated"
CONVERT = ("QuantizeLinear", "DequantizeLinear")
ANCHORS = ("Conv", "Gemm", "MatMul")
ABSORBED = frozenset(
    (
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"),
        *("Add", "Mul", "BatchNormalization"),
    )
)
"""Nodes that onnxruntime fuses into the convolution before them."""


@dataclass(frozen=True)
class FileNodes:
    """The file's nodes: `nodes` by name, `producers` by the value that they give."""

    nodes: Mapping[str, Any]
    producers: Mapping[str, Any]


def names_of(model: Path) -> FileNodes:
    """The names in an ONNX file."""
    from paredown.models.onnx.edit import load_onnx

    graph = load_onnx(model).graph
    return FileNodes(
        {node.name: node for node in graph.node if node.name},
        {value: node for node in graph.node for value in node.output},
    )


def node_durations(model: Path, events: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Microseconds of every kernel call in order, by the name in the file, `+<op type>` or `+<op type>@<name>`."""
    names = names_of(model)
    calls = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(KERNEL)]
    executed = [_executed_name(call["name"].removesuffix(KERNEL), call["args"]["op_name"], names) for call in calls]
    durations: dict[str, list[int]] = defaultdict(list)
    for name, call in zip(_with_causes(executed, names), calls, strict=True):
        durations[name].append(call["dur"])
    return durations


def _executed_name(executed: str, op: str, names: FileNodes) -> str:
    """The name in the file; a second copy of a conversion is one that onnxruntime inserted for what it copied."""
    name = node_name_in_file(executed, op, names)
    return f"+{op}@{name}" if executed.endswith(COPIED) and not name.startswith("+") else name


def _with_causes(executed: Sequence[str], names: FileNodes) -> list[str]:
    """The names, inserted changes of layout with the node that needs them, of the nearest ones that are in the file."""
    before = list(_nearest_known(executed))
    after = list(_nearest_known(executed[::-1]))[::-1]
    causes = [_cause(*three, names) for three in zip(executed, before, after, strict=True)]
    return [f"{name}@{cause}" if cause else name for name, cause in zip(executed, causes, strict=True)]


def _nearest_known(executed: Sequence[str]) -> Iterator[str]:
    """Per node the last one up to it that is in the file; empty where there is none."""
    return islice(accumulate(executed, lambda last, name: last if name[0] == "+" else name, initial=""), 1, None)


def _cause(name: str, before: str, after: str, names: FileNodes) -> str:
    """The node that a change of layout is for: a conversion beside it, or the one that cannot read the blocked layout,
    or did not write it although the next one wants it. Empty for other nodes."""
    if name == "+Transpose":
        beside = (one for one in (before, after) if one in names.nodes and names.nodes[one].op_type in CONVERT)
        return next(beside, after or before)
    return {"+ReorderOutput": after, "+ReorderInput": before}.get(name, "")


def node_name_in_file(executed: str, op: str, names: FileNodes) -> str:
    """The name in the file of an executed node, or `+<op>` where onnxruntime inserted it."""
    name, shorter = "", executed
    while name != shorter:
        name, shorter = shorter, RENAMED.sub("", shorter, count=1)
        if name in names.nodes:
            return name
        if BLOCKED.search(name) and BLOCKED.sub("", name) in names.producers:
            return anchor_node(BLOCKED.sub("", name), op, names.producers) or f"+{op}"
    return f"+{op}"


def anchor_node(value: str, op: str, producers: Mapping[str, Any]) -> str:
    """The name of the node that gave `value`; of the convolution that it was fused into where `op` is one."""
    last = node = producers[value]
    while op in ANCHORS and node.op_type in ABSORBED and node.input[0] in producers:
        node = producers[node.input[0]]
    return str(node.name if node.op_type == op else last.name)
