"""Channel groups and their surgery: which layers must lose the same channels, and taking them out.

torch-pruning's dependency graph finds the groups. Every group is checked before it is offered: the network with
those channels zeroed must compute the same as the network without them.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from paredown.models.network.layers import ChannelGroup
from paredown.models.network.shape import Shape, device_of

Kept = Mapping[str, Sequence[int]]
"""Per layer that makes channels the indices of those that stay, in order."""


def channel_groups(module: nn.Module, shape: Shape, keep: Sequence[str] = ()) -> tuple[ChannelGroup, ...]:
    """The groups of a network that can be narrowed.

    Groups that touch the layers named in `keep` (the classifier), whose indices do not map one to one, or for which
    zeroed and removed channels disagree are left out.
    """
    graph = _dependencies(module, shape)
    read = (_read(graph, group, module, keep) for group in graph.get_all_groups())  # type: ignore[no-untyped-call]
    groups = tuple(group for group in read if group is not None and group.width > 1)
    if _removing_equals_zeroing(module, shape, groups):
        return groups
    agreed: tuple[ChannelGroup, ...] = ()
    for group in groups:  # each together with those before it: two groups can be wrong only in company
        if _removing_equals_zeroing(module, shape, (*agreed, group)):
            agreed = (*agreed, group)
    return agreed


def remove_channels(module: nn.Module, shape: Shape, kept: Kept) -> nn.Module:
    """A copy of the module whose named layers, and whatever hangs together with them, have only the `kept` channels."""
    pruned = copy.deepcopy(module)
    graph, frozen = _dependencies(pruned, shape), {n for n, p in module.named_parameters() if not p.requires_grad}
    for name, stay in kept.items():
        layer = pruned.get_submodule(name)
        if _width(layer) > len(stay):  # else it went with a layer before it
            gone = sorted(set(range(_width(layer))) - set(stay))
            graph.get_pruning_group(layer, _prune_out(layer), gone).prune()  # type: ignore[no-untyped-call]
    for name, parameter in pruned.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return pruned


def zero_channels(module: nn.Module, group: ChannelGroup, gone: Sequence[int]) -> None:
    """Sets channels to zero in place: the rows of every layer that produces them (batch norm is folded)."""
    with torch.no_grad():
        for name in group.outputs:
            module.get_parameter(f"{name}.weight")[list(gone)] = 0
            if f"{name}.bias" in dict(module.named_parameters()):
                module.get_parameter(f"{name}.bias")[list(gone)] = 0


def _dependencies(module: nn.Module, shape: Shape) -> tp.DependencyGraph:
    """torch-pruning's graph, which follows gradients: frozen parameters are thawed while it is built."""
    frozen = [p for p in module.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    empty = tp.DependencyGraph()  # type: ignore[no-untyped-call]
    with torch.enable_grad():
        example = torch.randn(1, *shape, device=device_of(module))
        graph = empty.build_dependency(module.eval(), example_inputs=example, verbose=False)
    for parameter in frozen:
        parameter.requires_grad_(False)
    return graph


def _read(graph: tp.DependencyGraph, group: tp.Group, module: nn.Module, keep: Sequence[str]) -> ChannelGroup | None:
    """torch-pruning's group as ours; None for one that cannot be narrowed."""
    sides = _makers_and_readers(graph, group, module)
    return _narrowable(*sides, module, keep) if sides is not None else None


def _makers_and_readers(
    graph: tp.DependencyGraph, group: tp.Group, module: nn.Module
) -> tuple[list[str], list[str]] | None:
    """The layers that make a group's channels, and those that read them; None where indices do not map one to one."""
    names = {layer: name for name, layer in module.named_modules()}
    outputs: list[str] = []
    inputs: list[str] = []
    for dependency, indices in group:  # type: ignore[attr-defined]
        layer, name = dependency.target.module, names.get(dependency.target.module, "")
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            if isinstance(layer, nn.Parameter) or _has_numbers_per_channel(layer):
                return None
            continue
        side = outputs if graph.is_out_channel_pruning_fn(dependency.handler) else inputs
        if _channels(layer, side is outputs) != len(set(indices)) or list(indices) != sorted(indices):
            return None
        if name not in side:
            side.append(name)
    return outputs, inputs


def _has_numbers_per_channel(layer: nn.Module) -> bool:
    """Whether a layer between convolutions has parameters or statistics of its own that a plan does not narrow; it
    does the slopes of PReLU."""
    own = (*layer.parameters(), *layer.buffers())
    return not isinstance(layer, nn.PReLU) and any(tensor.numel() > 1 for tensor in own)


def _narrowable(
    outputs: Sequence[str], inputs: Sequence[str], module: nn.Module, keep: Sequence[str]
) -> ChannelGroup | None:
    """The group of these layers, a layer that is not depthwise first; None where they cannot be narrowed together."""
    depthwise = [name for name in outputs if _groups(module.get_submodule(name)) > 1]
    readers = [name for name in inputs if name not in depthwise]
    root = next((name for name in outputs if name not in depthwise), None)
    if root is None or set(outputs) & set(keep):
        return None
    if any(_is_grouped(module.get_submodule(name)) for name in (*outputs, *readers)):
        return None
    width = _width(module.get_submodule(root))
    if any(_channels(module.get_submodule(name), False) != width for name in readers):
        return None  # a classifier that reads several pixels of a channel, side by side
    if any(_width(module.get_submodule(name)) != width for name in outputs):
        return None  # a concatenation, joined with one layer of its width
    return ChannelGroup(root, width, (root, *(name for name in outputs if name != root)), tuple(readers))


def _is_grouped(layer: nn.Module) -> bool:
    """Grouped but not depthwise: narrowing it would have to keep every group equal."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.in_channels


def _groups(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _channels(layer: nn.Module, out: bool) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if out else layer.in_channels
    return layer.out_features if out else layer.in_features


def _prune_out(layer: nn.Module) -> Callable[..., Any]:
    return tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels


def _removing_equals_zeroing(module: nn.Module, shape: Shape, groups: Sequence[ChannelGroup]) -> bool:
    """Whether a network without every other channel of the groups computes the same as with these at zero."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(2, *shape, generator=generator)
    zeroed = copy.deepcopy(module).eval()
    for group in groups:
        zero_channels(zeroed, group, range(1, group.width, 2))
    kept = {group.name: range(0, group.width, 2) for group in groups}
    with torch.no_grad():
        expected = zeroed(batch)
        try:
            computed = remove_channels(module, shape, kept).eval()(batch)
        except (RuntimeError, ValueError):
            return False
    scale = float(expected.abs().max()) + 1e-6
    return computed.shape == expected.shape and float((computed - expected).abs().max()) < 1e-4 * scale + 1e-6
