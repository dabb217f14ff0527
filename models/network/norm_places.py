"""Where batch norms stand in a network: directly behind a layer that nothing else reads, or elsewhere."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from paredown.models.network.shape import Shape, device_of


@dataclass(frozen=True)
class NormPlaces:
    """(layer, norm) `pairs` where a norm alone reads what the layer computes; and the norms on maps that stand `alone`.

    All are called once, and have statistics of their own.
    """

    pairs: tuple[tuple[str, str], ...]
    alone: tuple[str, ...]


def norm_places(module: nn.Module, shape: Shape) -> NormPlaces:
    """The batch norms of a module, which is run once, in the mode that it is in."""
    calls = _Calls()
    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [m.register_forward_hook(calls.computed(n)) for n, m in layers]
    hooks += [m.register_forward_pre_hook(calls.normed(n)) for n, m in norms if m.running_mean is not None]
    with torch.no_grad(), calls:
        module(torch.zeros(1, *shape, device=device_of(module)))
    for hook in hooks:
        hook.remove()
    pairs = tuple(pair for pair in calls.pairs() if _scales_by_rows(module.get_submodule(pair[0]), calls.read[pair[0]]))
    paired = {norm for _, norm in pairs}
    maps = (name for name, axes in calls.axes.items() if axes == 4 and calls.uses[name] == 1)
    return NormPlaces(pairs, tuple(name for name in maps if name not in paired))


class _Calls(TorchFunctionMode):
    """Notes which layer made a tensor, which norm reads it, and how often anything reads it.

    Hooks alone do not see a second reader (the shortcut of a pre-activation block), nor an activation that works in
    place between the two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[str, Tensor]] = {}
        self.read: dict[str, torch.Size] = {}
        self.axes: dict[str, int] = {}
        self.reads, self.uses = Counter[int](), Counter[str]()
        self.pairs_by_id: list[tuple[int, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(value, Tensor) for value in tree_leaves(result)):
            read = {id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
            self.reads.update(read & self.made.keys())
        return result

    def computed(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.made[id(output)] = (name, output)  # held, so that its id stays its own
            self.uses[name] += 1
            if args and args[0].ndim == (4 if isinstance(module, nn.Conv2d) else 2):  # else channels lie elsewhere
                self.read[name] = args[0].shape

        return note

    def normed(self, name: str) -> Callable[..., None]:
        def note(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.uses[name] += 1
            if args:
                self.axes[name] = args[0].ndim
                self.pairs_by_id += [(id(args[0]), name)] if id(args[0]) in self.made else []

        return note

    def pairs(self) -> list[tuple[str, str]]:
        """(layer, norm) names, both called once and nothing else reading what is between them, maps or vectors."""
        named = [(self.made[key][0], norm) for key, norm in self.pairs_by_id if self.reads[key] == 1]
        once = [(layer, norm) for layer, norm in named if self.uses[layer] == self.uses[norm] == 1]
        return [
            (layer, norm) for layer, norm in once if layer in self.read and self.axes[norm] == len(self.read[layer])
        ]


def _scales_by_rows(layer: nn.Module, shape: torch.Size) -> bool:
    """Whether a layer of this input computes `gain` times as much where the rows of its weight and its bias are that
    large: not if it standardises or computes its weight."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if "weight" not in layer._parameters:
        return False
    if type(layer).forward in (nn.Conv2d.forward, nn.Linear.forward):
        return True
    weight, bias = layer.weight, layer.bias
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
    gains = torch.linspace(0.5, 2.0, len(weight), device=weight.device)
    with torch.no_grad():
        before: Tensor = layer(images) * gains.reshape(-1, *[1] * (len(shape) - 2))
        layer.weight = nn.Parameter(weight * gains.reshape(-1, *[1] * (weight.ndim - 1)))
        layer.bias = nn.Parameter(bias * gains) if bias is not None else None
        after: Tensor = layer(images)
    layer.weight, layer.bias = weight, bias
    return torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
