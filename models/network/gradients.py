"""Layers that a training step would not train, although it should."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from paredown.models.network.shape import Shape, device_of

SHOWN = 3
"""Layers that are named."""


def untrained_notes(module: nn.Module, shape: Shape) -> list[str]:
    """A line for a person where layers run in training and no gradient reaches them, as behind `detach()`; their
    weights stay as they are however long it trains."""
    ran, without = _layers(module, shape)
    if not without:
        return []
    named = ", ".join(without[:SHOWN]) + (", ..." if len(without) > SHOWN else "")
    why = "as behind detach() or in torch.no_grad() in its code"
    return [f"the model: no gradient reaches {len(without)} of {ran} layers ({named}), {why}: training leaves them"]


def _layers(module: nn.Module, shape: Shape) -> tuple[int, list[str]]:
    """How many layers with trainable parameters run in a training step on noise, and the names of those that get no
    gradient; none where the step fails or the answer has no gradient at all, which others refuse. The module, which
    answers with one tensor, stays as it is."""
    tried, ran = copy.deepcopy(module).train(), dict[str, list[nn.Parameter]]()

    def watch(name: str, layer: nn.Module) -> None:
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        if trained and next(layer.children(), None) is None:
            layer.register_forward_pre_hook(lambda _layer, _inputs: ran.update({name: trained}))

    for name, layer in tried.named_modules():
        watch(name, layer)
    answer = _answer(tried, shape)
    if answer is None or not answer.requires_grad:
        return 0, []
    together = [parameter for trained in ran.values() for parameter in trained]
    gradients: tuple[Any, ...] = torch.autograd.grad(answer.sum(), together, allow_unused=True)
    reached = {id(one) for one, gradient in zip(together, gradients, strict=True) if gradient is not None}
    return len(ran), [name for name, trained in ran.items() if not any(id(one) in reached for one in trained)]


def _answer(module: nn.Module, shape: Shape) -> Tensor | None:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            answer: Tensor = module(torch.randn(2, *shape).to(device_of(module)))
        except Exception:  # it may be anybody's code; the training says what is wrong with it
            return None
    return answer
