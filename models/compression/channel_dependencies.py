"""torch-pruning's dependency graph of a network, and its groups read as ours, or refused with a reason."""

from collections.abc import Collection, Iterator, Sequence

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.dependency import index_mapping

from paredown.models.network.layers import ChannelGroup
from paredown.models.network.shape import Shape, device_of


def dependency_graph(module: nn.Module, shape: Shape) -> tp.DependencyGraph:
    """torch-pruning's graph, which follows gradients: frozen parameters are thawed while it is built."""
    frozen = [p for p in module.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    graph = tp.DependencyGraph()  # type: ignore[no-untyped-call]
    example = torch.randn(1, *shape, device=device_of(module))
    try:
        with torch.enable_grad():
            graph.build_dependency(module.eval(), example_inputs=example, verbose=False)
    except ArithmeticError:  # it divides numbers of channels, and a shuffle may leave it none; all but this is there
        _leave_out_unmapped(graph)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return graph


def _leave_out_unmapped(graph: tp.DependencyGraph) -> None:
    """Takes out of a graph the reshapes whose indices torch-pruning cannot map, as it stumbles over them for every
    group anew. What hangs together through them is found out by trying, as for all groups."""
    nodes = dict(graph.module2node)
    for module, node in list(nodes.items()):
        graph.module2node = {module: node}
        try:
            index_mapping.update_index_mapping(graph)  # type: ignore[no-untyped-call]
        except ArithmeticError:
            del nodes[module]
    graph.module2node = nodes


def all_groups(graph: tp.DependencyGraph, module: nn.Module) -> Iterator[tuple[str, tp.Group | None]]:
    """(first layer, group) of all channels; None where torch-pruning stumbles over a group.

    Its own `get_all_groups` ends with the first group that it cannot follow.
    """
    names, seen = {layer: name for name, layer in module.named_modules()}, set[nn.Module]()
    for layer in list(graph.module2node):
        if layer in seen or not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            continue
        pruner = graph.get_pruner_of_module(layer)
        try:
            every = list(range(pruner.get_out_channels(layer)))
            group = graph.get_pruning_group(layer, pruner.prune_out_channels, every)
        except Exception:  # a ZeroDivisionError in a channel shuffle, for one
            yield names[layer], None
            continue
        seen |= {d.target.module for d, _ in group if graph.is_out_channel_pruning_fn(d.handler)}  # type: ignore[attr-defined]
        yield names[layer], group


def read_group(
    graph: tp.DependencyGraph,
    group: tp.Group | None,
    module: nn.Module,
    keep: Collection[str],
    layers: Collection[str] | None,
) -> ChannelGroup | str:
    """torch-pruning's group as ours; for one that cannot be narrowed the reason, or nothing for one that is kept."""
    if group is None:
        return "torch-pruning cannot follow it"
    sides = _makers_and_readers(graph, group, module, layers)
    return _narrowable(*sides, module, keep) if not isinstance(sides, str) else sides


def _makers_and_readers(
    graph: tp.DependencyGraph, group: tp.Group, module: nn.Module, layers: Collection[str] | None
) -> tuple[list[str], list[str]] | str:
    """The layers that make a group's channels, and those that read them; the reason where it cannot be narrowed."""
    names = {layer: name for name, layer in module.named_modules()}
    outputs: list[str] = []
    inputs: list[str] = []
    for dependency, indices in group:  # type: ignore[attr-defined]
        layer, name = dependency.target.module, names.get(dependency.target.module, "")
        if isinstance(layer, nn.Parameter):
            return "a parameter of its own"
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            if _has_numbers_per_channel(layer):
                return type(layer).__name__
            continue
        if layers is not None and name not in layers:
            return "a layer that stays as it is"
        side = outputs if graph.is_out_channel_pruning_fn(dependency.handler) else inputs
        if _channels(layer, side is outputs) != len(set(indices)) or list(indices) != sorted(indices):
            return "a concatenation, split or shuffle"
        if name not in side:
            side.append(name)
    return outputs, inputs


def _has_numbers_per_channel(layer: nn.Module) -> bool:
    """Whether a layer between convolutions has parameters or statistics of its own that a plan does not narrow; it
    does the slopes of PReLU."""
    own = (*layer.parameters(), *layer.buffers())
    return not isinstance(layer, nn.PReLU) and any(tensor.numel() > 1 for tensor in own)


def _narrowable(
    outputs: Sequence[str], inputs: Sequence[str], module: nn.Module, keep: Collection[str]
) -> ChannelGroup | str:
    """The group of these layers, a layer that is not depthwise first; why they cannot be narrowed together, or nothing
    where they are kept."""
    depthwise = [name for name in outputs if _groups(module.get_submodule(name)) > 1]
    readers = [name for name in inputs if name not in depthwise]
    root = next((name for name in outputs if name not in depthwise), None)
    if set(outputs) & set(keep):
        return ""
    if any(_is_grouped(module.get_submodule(name)) for name in (*outputs, *readers)):
        return "a grouped convolution"
    if root is None:
        return "no layer makes it"
    width = width_of(module.get_submodule(root))
    if any(_channels(module.get_submodule(name), False) != width for name in readers):
        return "pixels side by side"  # a classifier that reads several pixels of a channel
    if any(width_of(module.get_submodule(name)) != width for name in outputs):
        return "a concatenation, split or shuffle"
    return ChannelGroup(root, width, (root, *(name for name in outputs if name != root)), tuple(readers))


def _is_grouped(layer: nn.Module) -> bool:
    """Grouped but not depthwise, one channel each: narrowing it would have to keep every group equal."""
    return (
        isinstance(layer, nn.Conv2d) and layer.groups > 1 and {layer.groups} != {layer.in_channels, layer.out_channels}
    )


def _groups(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def width_of(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _channels(layer: nn.Module, out: bool) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if out else layer.in_channels
    return layer.out_features if out else layer.in_features
