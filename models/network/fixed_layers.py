"""What computes as a layer does and cannot be changed: attention, computed or shared weights, other convolutions."""

from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule, Node

from paredown.models.network.layers import is_weighted, plain_layers, weight_module
from paredown.models.network.nodes import module_of, module_paths, operator_name

KINDS = {
    "bmm": "matrix product",
    "conv1d": "Conv1d",
    "conv3d": "Conv3d",
    "conv_transpose1d": "ConvTranspose1d",
    "conv_transpose2d": "ConvTranspose2d",
    "conv_transpose3d": "ConvTranspose3d",
    "einsum": "einsum",
    "matmul": "matrix product",
    "scaled_dot_product_attention": "attention",
}
"""Operators beside `conv2d` and `linear` that compute as layers do, with what they are called outside of modules."""


@dataclass(frozen=True)
class FixedLayer:
    """A layer that stays as it is, in fp32: `module` is the path of the module that computes it (empty for the
    outermost one), `kind` what it is, in a user's words."""

    module: str
    kind: str

    def __str__(self) -> str:
        return f"{self.module} ({self.kind})" if self.module else self.kind


def read_fixed_layers(graph: GraphModule, module: nn.Module) -> tuple[FixedLayer, ...]:
    """What computes as a layer does and is none of `read_layers`, each once, in order; all of an attention is one."""
    plain = plain_layers(graph, module)
    nodes = [n for n in graph.graph.nodes if n not in plain and (is_weighted(n) or operator_name(n) in KINDS)]
    return tuple(dict.fromkeys(_fixed_layer(node, module) for node in nodes))


def _fixed_layer(node: Node, module: nn.Module) -> FixedLayer:
    attention = [path for path in module_paths(node) if "attention" in _class_name(module, path).lower()]
    weighing = weight_module(node) if is_weighted(node) else ""
    path = next(iter(attention), "") or weighing or module_of(node)
    return FixedLayer(path, _kind(node, _class_name(module, path), path == weighing))


def _kind(node: Node, held: str, own_weight: bool) -> str:
    """The name of the module's class, and what is odd about a convolution or linear layer that looks like any other."""
    operator = operator_name(node)
    if not held or not is_weighted(node):
        return held or KINDS.get(operator, f"{operator} with a computed weight")
    if not own_weight:
        return held
    axes = node.meta["val"].ndim
    return f"{held} on {axes} axes" if operator == "linear" and axes != 2 else f"{held}, shared or called otherwise"


def _class_name(module: nn.Module, path: str) -> str:
    """Empty for the outermost module, and for a path that is none of its modules."""
    return next((type(inner).__name__ for name, inner in module.named_modules() if path and name == path), "")
