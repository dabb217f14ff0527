"""Runs a traced network and hands over chosen values on the way, so that no value is kept longer than it is needed."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

See = Callable[[str, Tensor], None]
"""Is given a node's name and a tensor: what the node computed, or what it reads."""


def watch_values(graph: GraphModule, images: Tensor, see: See, names: Collection[str] | None = None) -> Tensor:
    """What the network computes of images (N, 3, H, W); `see` is given every tensor on the way, or those of `names`."""
    logits: Tensor = _Values(graph, see, names).run(images)
    return logits


def watch_inputs(graph: GraphModule, images: Tensor, see: See, names: Collection[str]) -> Tensor:
    """The same, where `see` is given what each node in `names` reads first, before it computes."""
    logits: Tensor = _Inputs(graph, see, names).run(images)
    return logits


def input_of_node(graph: GraphModule, images: Tensor, name: str) -> Tensor:
    """What the node `name`, which must be there, reads first; neither it nor anything behind it is computed."""

    def stop(_name: str, read: Tensor) -> None:
        raise _ReachedError(read)

    try:
        watch_inputs(graph, images, stop, {name})
    except _ReachedError as reached:
        return reached.read
    raise KeyError(f"the network has no node '{name}'")


class _ReachedError(Exception):
    """Ends a run before a node; `read` is what that node reads."""

    def __init__(self, read: Tensor) -> None:
        super().__init__()
        self.read = read


class _Values(Interpreter):
    def __init__(self, graph: GraphModule, see: See, names: Collection[str] | None) -> None:
        super().__init__(graph)
        self.see, self.names = see, names

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and (self.names is None or n.name in self.names):
            self.see(n.name, result)
        return result


class _Inputs(Interpreter):
    def __init__(self, graph: GraphModule, see: See, names: Collection[str]) -> None:
        super().__init__(graph)
        self.see, self.names = see, names

    def run_node(self, n: Node) -> Any:
        if n.name in self.names:
            self.see(n.name, self.fetch_args_kwargs_from_env(n)[0][0])
        return super().run_node(n)
