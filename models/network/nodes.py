"""What single nodes of a traced graph say: their operator, what they read, and the size of what they compute."""

from torch.fx import Graph, Node

NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"
"""What torch.export names as the module of nodes that it made itself, such as the size of a batch."""

FUSED = {"relu", "hardtanh", "clamp"}
"""Activations that runtimes compute inside the layer before them."""

PASSING = {"view", "flatten", "reshape", "dropout", "clone", "contiguous", "max_pool2d", "alias", "pad"}
"""Operations whose output has the range of their input."""


def operator_name(node: object) -> str:
    """`conv2d` for a call of aten.conv2d.default; empty for everything that is not an ATen call."""
    if not isinstance(node, Node) or node.op != "call_function":
        return ""
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet).rpartition(".")[2] if packet is not None else ""


def module_attribute(node: object) -> str:
    """The qualified name that a get_attr node reads."""
    return str(node.target) if isinstance(node, Node) and node.op == "get_attr" else ""


def fused_output_node(node: Node) -> Node:
    """The node itself, or the fused activation that is all that reads it."""
    users = list(node.users)
    return users[0] if len(users) == 1 and operator_name(users[0]) in FUSED else node


def source_node(value: object) -> Node:
    """The node that computed a value, behind the operations that only pass it on (`PASSING`)."""
    assert isinstance(value, Node)
    return source_node(value.args[0]) if operator_name(value) in PASSING else value


def module_of(node: Node) -> str:
    """The path of the module whose code made a node; empty for the outermost one."""
    return next(reversed(module_paths(node)), "")


def module_paths(node: Node) -> tuple[str, ...]:
    """The paths of the modules whose code made a node, outermost first.

    torch.export writes `block@1` for the second call of `block`, and a name of its own for nodes that no module made.
    """
    paths = (str(path) for path, _ in node.meta.get("nn_module_stack", {}).values())
    return tuple(path.partition("@")[0] for path in paths if path != NO_MODULE)


def pixel_count(node: Node) -> int:
    """Height times width of the feature map that a node computes; 1 for what is no map."""
    shape = node.meta["val"].shape
    return int(shape[2]) * int(shape[3]) if len(shape) == 4 else 1


def remove_dead_nodes(graph: Graph) -> None:
    """Takes away what nothing reads, in place, also dropouts: torch.fx keeps them, as they draw when they are on."""
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
