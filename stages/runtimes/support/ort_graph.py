"""What onnxruntime makes of the nodes of a file: which operator it executes in the place of each."""

import re
from pathlib import Path
from typing import Any

from paredown.stages.runtimes.support import ort_session
from paredown.stages.runtimes.support.in_process import check_onnx_file
from paredown.stages.runtimes.support.standalone import SessionError

MARK = re.compile(r"paredown\.(\d+)\.")
"""In the name of a node: onnxruntime puts words before and behind names when it fuses nodes."""


def executed_operators(model: Path, folder: Path) -> dict[str, str]:
    """First value of a node to the operator that is executed in its place, of nodes that are still there by name;
    scratch files go to `folder`. Raises SessionError where onnxruntime cannot load the file."""
    import onnx

    marked, values = _marked(check_onnx_file(model))
    source, target = folder / "marked.onnx", folder / "optimised.onnx"
    try:
        source.write_bytes(marked.SerializeToString())
    except ValueError as error:  # over 2 GiB with the external data that was read into it
        raise SessionError(f"it is too large to be looked at: {error}") from error
    ort_session.open_session(source, 1, optimised=target, layouts=False)
    executed = onnx.load(target, load_external_data=False)
    found = ((MARK.search(node.name), node.op_type) for node in executed.graph.node)
    return {values[int(mark[1])]: op for mark, op in found if mark}


def _marked(model: Any) -> tuple[Any, list[str]]:
    """A model whose nodes have numbers for names, its functions written out, and the nodes' first values."""
    from paredown.models.onnx.edit import copy_of_model
    from paredown.models.onnx.facts import whole_model
    from paredown.models.onnx.walk import all_nodes

    copied, values = copy_of_model(whole_model(model)), list[str]()
    for node in all_nodes(copied):
        node.name = f"paredown.{len(values)}."
        values.append(node.output[0] if node.output else "")
    return copied, values
