"""Random numbers in a trace: with some, a network has no one answer."""

import re

from torch.fx import Graph, Node

from paredown.models.errors import InputError
from paredown.models.loading.code_places import is_library
from paredown.models.network.nodes import operator_name

RANDOM = {
    *("bernoulli", "bernoulli_", "exponential", "exponential_", "multinomial", "normal", "normal_", "poisson"),
    *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "uniform", "uniform_"),
}
"""Operators that draw; dropout can be off, and is dealt with where it is not."""


def refuse_chance(graph: Graph) -> None:
    """Raises InputError, with the place in the user's code, where a value of the trace is drawn by chance."""
    for node in graph.nodes:
        if (operator := operator_name(node)) in RANDOM:
            place = _place(node)
            drawn = f"draws random numbers in evaluation mode ({operator.rstrip('_')}{f' at {place}' if place else ''})"
            raise InputError(f"the model {drawn}: it has no one answer for an image, which pruning could keep")


def _place(node: Node) -> str:
    """`file:line` of the user's code that made a node; empty where a library's did alone."""
    frames = re.findall(r'File "(.+?)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    return next((f"{file}:{line}" for file, line in reversed(frames) if not is_library(file)), "")
