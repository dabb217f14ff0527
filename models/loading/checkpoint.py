"""Reads checkpoints as plain tensors, and fits them strictly into a model."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.files import refuse_pointer
from paredown.models.loading.pickles import check_pickles

NESTED = ("state_dict", "model", "model_ema")
PREFIXES = ("module.", "_orig_mod.")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt`, `.th` or `.safetensors` checkpoint by parameter name.

    The tensors may lie under `state_dict`, `model` or `model_ema`; wrappers' prefixes (`module.` of
    DistributedDataParallel, `_orig_mod.` of torch.compile) are taken off. No code in the file is run.
    """
    raw = _read(path)
    for key in NESTED:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(item, Tensor) for item in raw.values()):
        text = f"no state_dict, nor one under {', '.join(NESTED)}: save model.state_dict()"
        raise InputError(f"{path}: {text}")
    state = {str(key): value for key, value in raw.items()}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _read(path: Path) -> Any:
    refuse_pointer(path)
    if path.suffix != ".safetensors":
        check_pickles(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = f"{path}: corrupt, or holds more than tensors, which is never loaded: save model.state_dict()"
        raise InputError(text) from error
    except Exception as error:  # truncated files surface as many types, and none of them says which file
        raise InputError(f"{path}: cannot be read as a checkpoint ({type(error).__name__})") from error


def classifier_heads(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """All layers that could be a classifier, Linear and 1x1 Conv2d, in the order of definition."""
    named = model.named_modules()
    return {
        name: layer
        for name, layer in named
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    }


def output_count(layer: nn.Linear | nn.Conv2d) -> int:
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


def fit_state(
    model: nn.Module, state: Mapping[str, Tensor], classes: int, head: Literal["keep", "replace"], where: str
) -> None:
    """Copies `state` into `model`, whose head has `classes` outputs; every tensor must fit.

    With `head="replace"` a head of another class count is left out, and the model keeps its own.
    Raises InputError that names up to three of the tensors that do not fit.
    """
    own = model.state_dict()
    state = _state_for_head(own, state, classifier_name(model, classes), head, where)
    problems = {
        "missing": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in own],
        "wrong shape": [
            f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    texts = [f"{len(keys)} {problem} ({_first(keys)})" for problem, keys in problems.items() if keys]
    if texts:
        raise InputError(f"{where}: these weights do not fit the model: {'; '.join(texts)}")
    model.load_state_dict(dict(state))


def _state_for_head(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str | None, head: str, where: str
) -> Mapping[str, Tensor]:
    """The state; with the model's own head where the state's has another class count, which `keep` refuses."""
    weight, bias = f"{name}.weight", f"{name}.bias"
    if weight not in own or weight not in state or own[weight].shape[1:] != state[weight].shape[1:]:
        return state
    theirs, ours = len(state[weight]), len(own[weight])
    if theirs == ours:
        return state
    if head == "keep":
        text = f"{theirs} classes at '{name}', the data has {ours}: a `fit` stage adapts it"
        raise InputError(f"{where}: {text}")
    return {**state, **{key: own[key] for key in (weight, bias) if key in own}}


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
