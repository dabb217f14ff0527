"""The classifier of a network: the layer whose outputs are the network's."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.code_places import fault_of
from paredown.models.loading.returned import Key, main_tensor

Head = nn.Linear | nn.Conv2d
_HINTS = {
    "mat1 and mat2": "data.image_size must be one that the network was made for",
    "channels, but got 3": "images have 3 channels here: give the network a first layer of 3",
}
_WEIGHTED = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "ScaledDotProduct", "Embedding", "Einsum")
"""Starts of the names of autograd's nodes that no classifier lies behind: they mix channels themselves."""


def run_once(module: nn.Module, side: int, where: str) -> Any:
    """What the module answers to a black image of `side` pixels. Raises InputError where it cannot be run, with the
    place in the user's code."""
    image = torch.zeros(1, 3, side, side, requires_grad=True)
    try:
        with torch.enable_grad():
            return module(image)
    except (Exception, SystemExit) as error:
        hint = next((f": {hint}" for text, hint in _HINTS.items() if text in str(error)), "")
        text = f"cannot be run on an image of (3, {side}, {side}): {fault_of(error)}{hint}"
        raise InputError(f"{where} {text}") from error


def classifier_heads(model: nn.Module) -> dict[str, Head]:
    """All layers that could be a classifier, Linear and 1x1 Conv2d, in the order of definition."""
    named = model.named_modules()
    return {
        name: layer
        for name, layer in named
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    }


def find_classifier(model: nn.Module, side: int, where: str, output: Key | None = None) -> str | None:
    """The name of the layer whose outputs, perhaps pooled, reshaped or activated, are the model's, or those that it
    returns at `output`; None where there is no such layer, or more than one. Runs the model once; raises InputError
    where that fails."""
    made: list[tuple[Any, str]] = []
    heads = classifier_heads(model)
    hooks = [layer.register_forward_hook(_noting(name, made)) for name, layer in heads.items()]
    try:
        answer = main_tensor(run_once(model, side, where), output)
    finally:
        for hook in hooks:
            hook.remove()
    if answer is None or answer.ndim < 2:
        return None
    found = set(_behind(answer.grad_fn, made))
    name = found.pop() if len(found) == 1 else None
    return name if name is not None and output_count(heads[name]) == answer.shape[1] else None


def _noting(name: str, made: list[tuple[Any, str]]) -> Any:
    """A hook that notes which node of autograd's graph a layer's output comes from."""

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None:
            made.append((output.grad_fn, name))

    return note


def _behind(node: Any, made: list[tuple[Any, str]]) -> Iterator[str]:
    """The layers that a value comes from, without passing through another layer with weights."""
    waiting, seen = [node], list[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or any(node is one for one in seen):
            continue
        seen.append(node)
        if names := [name for one, name in made if one is node]:
            yield names[-1]
        elif not node.name().startswith(_WEIGHTED):
            waiting += [before for before, _ in node.next_functions]


def output_count(layer: Head) -> int:
    """The number of outputs."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def classifier_name(model: nn.Module, classes: int) -> str | None:
    """The name of the last Linear (else the last 1x1 Conv2d) with `classes` outputs, if there is one.

    Linear goes first because the small convolutions of squeeze-and-excitation may have any width.
    """
    names = [name for name, layer in classifier_heads(model).items() if output_count(layer) == classes]
    linear = [name for name in names if isinstance(model.get_submodule(name), nn.Linear)]
    return next(reversed(linear or names), None)


def resize_head(model: nn.Module, name: str, classes: int) -> None:
    """Puts a fresh layer with `classes` outputs in the place of the head `name`."""
    old = model.get_submodule(name)
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        model.set_submodule(name, nn.Linear(old.in_features, classes, bias))
    elif isinstance(old, nn.Conv2d):
        model.set_submodule(name, nn.Conv2d(old.in_channels, classes, 1, bias=bias))
