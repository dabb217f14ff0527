"""Random numbers in a trace: with some, a network has no one answer."""

import re
from typing import Any

from torch.fx import Graph, Node

from paredown.models.errors import InputError
from paredown.models.loading.code_places import is_library
from paredown.models.network.nodes import operator_name

RANDOM = {
    *("bernoulli", "bernoulli_", "exponential", "exponential_", "multinomial", "normal", "normal_", "poisson"),
    *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "uniform", "uniform_"),
}
"""Operators that draw."""
DROPPING = {
    "alpha_dropout": "p",
    "dropout": "p",
    "feature_alpha_dropout": "p",
    "feature_dropout": "p",
    "rrelu": "training",
    "scaled_dot_product_attention": "dropout_p",
}
"""Operators that draw in training only, and the argument that says how much, of which nothing is nothing."""


def refuse_chance(graph: Graph) -> None:
    """Raises InputError, with the place in the user's code, where a value of the trace is drawn by chance."""
    for node in graph.nodes:
        operator = operator_name(node)
        if operator in RANDOM or _drops(node):
            place = _place(node)
            drawn = f"draws random numbers in evaluation mode ({operator.rstrip('_')}{f' at {place}' if place else ''})"
            hint = "; functional forms need training=self.training" if _drops(node) else ""
            raise InputError(f"the model {drawn}: it has no one answer for an image, which pruning could keep{hint}")


def _drops(node: Node) -> bool:
    """Whether a node is a dropout, or the like, that is on."""
    amount = DROPPING.get(operator_name(node).rstrip("_"))
    said = _arguments(node) if amount else {}
    return amount is not None and bool(said.get(amount)) and bool(said.get("train", True))


def _arguments(node: Node) -> dict[str, object]:
    """What an operator is given, by the names in its schema."""
    schema: Any = node.target
    names = [argument.name for argument in schema._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _place(node: Node) -> str:
    """`file:line` of the user's code that made a node; empty where a library's did alone."""
    frames = re.findall(r'File "(.+?)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    return next((f"{file}:{line}" for file, line in reversed(frames) if not is_library(file)), "")
