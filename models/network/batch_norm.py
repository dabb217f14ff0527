"""Batch norm: folded into the convolution before it, and its statistics estimated anew.

Runtimes fold it anyway; here it is done while layers can still be changed.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from paredown.models.network.shape import Shape, device_of


def fold_batch_norm(module: nn.Module, shape: Shape) -> nn.Module:
    """A copy in evaluation mode with every batch norm that directly follows a convolution folded into it."""
    folded = copy.deepcopy(module).eval()
    for conv, norm in batch_norm_pairs(folded, shape):
        _fold(folded, conv, norm)
    return folded


def batch_norm_pairs(module: nn.Module, shape: Shape) -> list[tuple[str, str]]:
    """(convolution, batch norm) names where the norm, and nothing else, reads what the convolution computes.

    The module is run once, in the mode that it is in. A layer that is called several times is in no pair.
    """
    calls = _Calls()
    hooks = [m.register_forward_hook(calls.convolved(n)) for n, m in module.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    hooks += [m.register_forward_pre_hook(calls.normed(n)) for n, m in norms]
    with torch.no_grad(), calls:
        module(torch.zeros(1, *shape, device=device_of(module)))
    for hook in hooks:
        hook.remove()
    return calls.pairs()


class _Calls(TorchFunctionMode):
    """Notes which convolution made a tensor, which norm reads it, and how often anything reads it.

    Hooks alone do not see a second reader (the shortcut of a pre-activation block), nor an activation that works in
    place between the two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[str, Tensor]] = {}
        self.reads, self.uses = Counter[int](), Counter[str]()
        self.pairs_by_id: list[tuple[int, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            read = {id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
            self.reads.update(read & self.made.keys())
        return result

    def convolved(self, name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _args: Any, output: Tensor) -> None:
            self.made[id(output)] = (name, output)  # held, so that its id stays its own
            self.uses[name] += 1

        return note

    def normed(self, name: str) -> Callable[..., None]:
        def note(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.uses[name] += 1
            if args and id(args[0]) in self.made:
                self.pairs_by_id.append((id(args[0]), name))

        return note

    def pairs(self) -> list[tuple[str, str]]:
        """(convolution, batch norm) names, both called once and nothing else reading what is between them."""
        named = [(self.made[key][0], norm) for key, norm in self.pairs_by_id if self.reads[key] == 1]
        return [(conv, norm) for conv, norm in named if self.uses[conv] == self.uses[norm] == 1]


def _fold(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    mean, var, eps = norm.running_mean, norm.running_var, norm.eps
    assert mean is not None and var is not None
    gain = (norm.weight if norm.weight is not None else torch.ones_like(mean)) / torch.sqrt(var + eps)
    bias = conv.bias if conv.bias is not None else torch.zeros_like(mean)
    shift = norm.bias if norm.bias is not None else torch.zeros_like(mean)
    conv.weight = nn.Parameter((conv.weight * gain.reshape(-1, 1, 1, 1)).detach())
    conv.bias = nn.Parameter((shift + (bias - mean) * gain).detach())
    module.set_submodule(norm_name, _after_norm(norm))


def _after_norm(norm: nn.Module) -> nn.Module:
    """What is left of a batch norm module once its affine part is folded: timm's have their activation inside."""
    inner = [getattr(norm, key) for key in ("drop", "act") if isinstance(getattr(norm, key, None), nn.Module)]
    return nn.Sequential(*inner) if inner else nn.Identity()


def reestimate_statistics(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces running statistics in place by plain averages over batches of the module's input, without dropout."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
