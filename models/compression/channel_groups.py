"""Channel groups and their surgery: which layers must lose the same channels, and taking them out.

torch-pruning's dependency graph finds the groups. Every group is checked before it is offered: the network with
those channels zeroed must compute the same as the network without them.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from paredown.models.errors import first_line
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.shape import Shape, device_of

Kept = Mapping[str, Sequence[int]]
"""Per layer that makes channels the indices of those that stay, in order."""


@dataclass(frozen=True)
class FoundGroups:
    """The groups that can be narrowed, and of those that cannot the first layer, with the reason."""

    groups: tuple[ChannelGroup, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def channel_groups(module: nn.Module, shape: Shape, keep: Collection[str] = ()) -> tuple[ChannelGroup, ...]:
    """The groups of a network that can be narrowed; see `find_channel_groups`."""
    return find_channel_groups(module, shape, keep).groups


def find_channel_groups(
    module: nn.Module, shape: Shape, keep: Collection[str] = (), layers: Collection[str] | None = None
) -> FoundGroups:
    """The groups of a network that can be narrowed, and why others cannot.

    Groups that touch the layers named in `keep` (the classifier) are left out. Refused are groups with a layer that is
    none of `layers`, whose indices do not map one to one, or for which zeroed and removed channels disagree.
    """
    try:
        graph = _dependencies(module, shape)
    except Exception as error:  # torch-pruning runs and takes apart any network, and may stumble over what it finds
        return FoundGroups((), {"all": f"torch-pruning cannot follow the network: {first_line(error)}"})
    read = {name: _read(graph, group, module, keep, layers) for name, group in _all_groups(graph, module)}
    refused = {name: reason for name, reason in read.items() if isinstance(reason, str) and reason}
    found = [group for group in read.values() if isinstance(group, ChannelGroup) and group.width > 1]
    agreed = agreeing_groups(found, lambda groups: _removing_equals_zeroing(module, shape, groups))
    refused |= {group.name: "channels cannot be told apart" for group in found if group not in agreed}
    return FoundGroups(agreed, refused)


def agreeing_groups(
    groups: Sequence[ChannelGroup],
    agree: Callable[[Sequence[ChannelGroup]], bool],
    accepted: tuple[ChannelGroup, ...] = (),
) -> tuple[ChannelGroup, ...]:
    """The `accepted` groups and of the others those that `agree` together with all before them: two groups can be
    wrong only in company. Halves are tried first, as most groups agree."""
    if not groups or agree((*accepted, *groups)):
        return (*accepted, *groups)
    if len(groups) == 1:
        return accepted
    middle = len(groups) // 2
    return agreeing_groups(groups[middle:], agree, agreeing_groups(groups[:middle], agree, accepted))


def remove_channels(module: nn.Module, shape: Shape, kept: Kept) -> nn.Module:
    """A copy of the module whose named layers, and whatever hangs together with them, have only the `kept` channels."""
    pruned = copy.deepcopy(module)
    if all(_width(pruned.get_submodule(name)) <= len(stay) for name, stay in kept.items()):
        return pruned  # torch-pruning cannot follow every network, and need not where nothing goes
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


def _all_groups(graph: tp.DependencyGraph, module: nn.Module) -> Iterator[tuple[str, tp.Group | None]]:
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


def _read(
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
    width = _width(module.get_submodule(root))
    if any(_channels(module.get_submodule(name), False) != width for name in readers):
        return "pixels side by side"  # a classifier that reads several pixels of a channel
    if any(_width(module.get_submodule(name)) != width for name in outputs):
        return "a concatenation, split or shuffle"
    return ChannelGroup(root, width, (root, *(name for name in outputs if name != root)), tuple(readers))


def _is_grouped(layer: nn.Module) -> bool:
    """Grouped but not depthwise, one channel each: narrowing it would have to keep every group equal."""
    return (
        isinstance(layer, nn.Conv2d) and layer.groups > 1 and {layer.groups} != {layer.in_channels, layer.out_channels}
    )


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
        except Exception:  # whatever torch-pruning or the network itself says to fewer channels
            return False
    return alike(computed, expected)


def alike(computed: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two answers are of one shape and differ by no more than `tolerance` of the largest."""
    scale = float(expected.abs().max()) + 1e-6
    return computed.shape == expected.shape and float((computed - expected).abs().max()) < tolerance * scale + 1e-6
