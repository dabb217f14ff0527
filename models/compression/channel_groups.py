"""Channel groups and their surgery: which layers must lose the same channels, and taking them out.

torch-pruning's dependency graph finds the groups. Every group is checked before it is offered: the network with
those channels zeroed must compute the same as the network without them.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from paredown.models.compression.channel_dependencies import all_groups, dependency_graph, read_group, width_of
from paredown.models.errors import first_line
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.shape import Shape

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
        graph = dependency_graph(module, shape)
    except Exception as error:  # torch-pruning runs and takes apart any network, and may stumble over what it finds
        return FoundGroups((), {"all": f"torch-pruning cannot follow the network: {first_line(error)}"})
    read = {name: read_group(graph, group, module, keep, layers) for name, group in all_groups(graph, module)}
    refused = {name: reason for name, reason in read.items() if isinstance(reason, str) and reason}
    found = [group for group in read.values() if isinstance(group, ChannelGroup) and group.width > 1]
    agreed = agreeing_groups(found, lambda groups: _removing_equals_zeroing(module, shape, groups))
    refused |= {group.name: "channels cannot be told apart" for group in found if group not in agreed}
    return FoundGroups(agreed, refused)


def agreeing_groups(
    groups: Sequence[ChannelGroup],
    agree: Callable[[Sequence[ChannelGroup]], bool],
    accepted: tuple[ChannelGroup, ...] = (),
    refused: bool = False,
) -> tuple[ChannelGroup, ...]:
    """The `accepted` groups and of the others those that `agree` together with all before them: two groups can be
    wrong only in company. Halves are tried first, as most groups agree; `refused`: all of them were just tried."""
    if not groups or (not refused and agree((*accepted, *groups))):
        return (*accepted, *groups)
    if len(groups) == 1:
        return accepted
    middle = len(groups) // 2
    first = agreeing_groups(groups[:middle], agree, accepted)
    return agreeing_groups(groups[middle:], agree, first, refused=len(first) == len(accepted) + middle)


def remove_channels(module: nn.Module, shape: Shape, kept: Kept) -> nn.Module:
    """A copy of the module whose named layers, and whatever hangs together with them, have only the `kept` channels."""
    pruned = copy.deepcopy(module)
    if all(width_of(pruned.get_submodule(name)) <= len(stay) for name, stay in kept.items()):
        return pruned  # torch-pruning cannot follow every network, and need not where nothing goes
    graph, frozen = dependency_graph(pruned, shape), {n for n, p in module.named_parameters() if not p.requires_grad}
    for name, stay in kept.items():
        layer = pruned.get_submodule(name)
        if width_of(layer) > len(stay):  # else it went with a layer before it
            gone = sorted(set(range(width_of(layer))) - set(stay))
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
