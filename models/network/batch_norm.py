"""Batch norm: made part of the layer before it or a layer of its own, and its statistics estimated anew.

Runtimes fold it anyway; here it is done while layers can still be changed.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paredown.models.network.norm_places import norm_places
from paredown.models.network.shape import Shape, device_of


def fold_batch_norm(module: nn.Module, shape: Shape) -> nn.Module:
    """A copy in evaluation mode in which batch norms are parts of layers.

    One that directly follows a convolution or linear layer is folded into it; any other one on maps becomes a depthwise
    1x1 convolution under its name. Left as they are: those that are called several times, and others on (N, C). Where
    the copy would compute something else (code that reads a norm's own numbers), less is folded.
    """
    plain, images = copy.deepcopy(module).eval(), _noise(module, shape)
    places = norm_places(plain, shape)
    attempts = [_folded(plain, places.pairs, places.alone), _folded(plain, places.pairs, ())]
    return next((one for one in attempts if _computes_alike(one, plain, images)), attempts[-1])


def batch_norm_pairs(module: nn.Module, shape: Shape) -> list[tuple[str, str]]:
    """(layer, batch norm) names where the norm, and nothing else, reads what the convolution or linear layer computes.

    The module is run once, in the mode that it is in. A layer that is called several times is in no pair.
    """
    return list(norm_places(module, shape).pairs)


def _noise(module: nn.Module, shape: Shape) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device_of(module))


def _computes_alike(one: nn.Module, other: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            pairs = zip(tree_leaves(one(images)), tree_leaves(other(images)), strict=True)
            return all(_close(a, b) for a, b in pairs if isinstance(a, Tensor))
    except Exception:  # the network's own code, which may not take what became of a norm
        return False


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0.0, atol=1e-3 * float(b.abs().nan_to_num().max()), equal_nan=True)


def _folded(plain: nn.Module, pairs: Iterable[tuple[str, str]], alone: Iterable[str]) -> nn.Module:
    folded = copy.deepcopy(plain)
    for layer, norm in pairs:
        _fold(folded, layer, norm)
    for name in alone:
        folded.set_submodule(name, _as_convolution(folded.get_submodule(name)))
    return folded


def _fold(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    gain, shift, mean = _affine(norm)
    bias = layer.bias if layer.bias is not None else torch.zeros_like(mean)
    layer.weight = nn.Parameter((layer.weight * gain.reshape(-1, *[1] * (layer.weight.ndim - 1))).detach())
    layer.bias = nn.Parameter((shift + (bias - mean) * gain).detach())
    module.set_submodule(norm_name, _after_norm(norm) or nn.Identity())


def _as_convolution(norm: nn.Module) -> nn.Module:
    """A batch norm on maps as a depthwise 1x1 convolution, with the activation that the norm may have inside."""
    gain, shift, mean = _affine(norm)
    count = len(gain)
    layer = nn.Conv2d(count, count, 1, groups=count, device=gain.device, dtype=gain.dtype)
    layer.weight = nn.Parameter(gain.reshape(-1, 1, 1, 1).detach())
    layer.bias = nn.Parameter((shift - mean * gain).detach())
    after = _after_norm(norm)
    return nn.Sequential(OrderedDict(norm=layer, after=after)) if after is not None else layer


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """(gain, shift, mean), each (channels,): the norm computes (x - mean) gain + shift."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    mean, var, eps = norm.running_mean, norm.running_var, norm.eps
    assert mean is not None and var is not None
    gain = (norm.weight if norm.weight is not None else torch.ones_like(mean)) / torch.sqrt(var + eps)
    return gain, norm.bias if norm.bias is not None else torch.zeros_like(mean), mean


def _after_norm(norm: nn.Module) -> nn.Module | None:
    """What is left of a batch norm module once its affine part is folded: timm's have their activation inside."""
    inner = [getattr(norm, key) for key in ("drop", "act") if isinstance(getattr(norm, key, None), nn.Module)]
    return nn.Sequential(*inner) if inner else None


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
