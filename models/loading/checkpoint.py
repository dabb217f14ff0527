"""Reads checkpoints as plain tensors, and fits them strictly into a model."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.files import refuse_pointer
from paredown.models.loading.classifier import classifier_name
from paredown.models.loading.pickles import check_pickles, is_zip
from paredown.models.loading.state_names import names_of_model, without_wrappers
from paredown.models.loading.state_places import FoundState, find_state
from paredown.models.loading.tensors import load_tensors


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by parameter name, from where `read_checkpoint` finds them."""
    return read_checkpoint(path).state


def read_checkpoint(path: Path, key: str | None = None) -> FoundState:
    """The tensors of a checkpoint by parameter name, and what a person should know of where they lay.

    They may be all that the file holds, or lie under names such as `state_dict`; `key` says which, where there are
    several. Wrappers' prefixes (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile) and what counters
    of operations left are taken off. No code in the file is run. Raises InputError for a file that holds no such
    tensors, or several sets of them of which none is obviously the model's.
    """
    found = find_state(_read(path), key, str(path))
    quantized = [name for name, tensor in found.state.items() if tensor.is_quantized]
    if quantized:
        raise InputError(f"{path}: its weights are quantized ({_first(quantized)}): use those of the float model")
    return FoundState(without_wrappers(found.state), found.notes)


def _read(path: Path) -> Any:
    refuse_pointer(path)
    if path.suffix != ".safetensors":
        check_pickles(path)
        _refuse_script(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_plain_values()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f" (it holds {named[1]})" if named else ""
        text = f"corrupt, or holds more than tensors, which is never loaded: save model.state_dict(){held}"
        raise InputError(f"{path}: {text}") from error
    except Exception as error:  # truncated files surface as many types, and none of them says which file
        raise InputError(f"{path}: cannot be read as a checkpoint ({type(error).__name__})") from error


def _refuse_script(path: Path) -> None:
    """Raises InputError for an archive of TorchScript, which holds code."""
    if not is_zip(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist()):
            text = "TorchScript, which holds code: save model.state_dict() of the module that it was made from"
            raise InputError(f"{path}: it is {text}")


def _plain_values() -> list[Any]:
    """What training scripts save beside tensors, and holds nothing but values: numbers of numpy, parsed arguments,
    paths (those of another system too, in a form that exists here)."""
    import argparse
    from pathlib import PurePosixPath, PureWindowsPath

    import numpy as np

    kinds = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float16", "float32", "float64")]
    scalar: Any = getattr(np, "_core", None) or np.core
    made = scalar.multiarray.scalar
    kept = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}
    paths = [(kind, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name, kind in kept.items()]
    return [argparse.Namespace, np.dtype, made, (made, "numpy.core.multiarray.scalar"), *paths, *kinds]


def fit_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    classes: int,
    head: Literal["keep", "replace"],
    where: str,
    classifier: str | None = None,
) -> list[str]:
    """Copies `state` into `model`, whose head has `classes` outputs; every tensor of the model must be there.

    With `head="replace"` a head of another class count is left out, and the model keeps its own: that of the layer
    `classifier`, or without one of the last layer of the right width. Where the model's names lie under a common
    prefix, what lies beside it is left out; the lines that say so are returned. Raises InputError that names up to
    three of the tensors that do not fit.
    """
    own = model.state_dict()
    named = names_of_model(state, list(own), where)
    name = classifier if classifier is not None else classifier_name(model, classes)
    fitting = _state_for_head(own, _with_tied(own, named.state), name, head, where)
    problems = {
        "missing": [key for key in own if key not in fitting and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in fitting if key not in own],
        "wrong shape": [
            f"{key} {tuple(fitting[key].shape)}, not {tuple(own[key].shape)}"
            for key in own
            if key in fitting and fitting[key].shape != own[key].shape
        ],
        "no floating point": [
            f"{key} {str(fitting[key].dtype).removeprefix('torch.')}"
            for key in own
            if key in fitting and own[key].is_floating_point() and not fitting[key].is_floating_point()
        ],
    }
    texts = [f"{len(keys)} {problem} ({_first(keys)})" for problem, keys in problems.items() if keys]
    if texts:
        raise InputError(f"{where}: these weights do not fit the model: {'; '.join(texts)}")
    load_tensors(model, fitting, strict=False)
    return list(named.notes)


def _with_tied(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state; with tensors that the model ties to others under each of their names: some formats keep one."""
    places = {_memory(own[key]): key for key in own if key in state}
    tied = {key: places[_memory(value)] for key, value in own.items() if key not in state and _memory(value) in places}
    return {**state, **{key: state[other] for key, other in tied.items()}}


def _memory(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape)


def _state_for_head(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str | None, head: str, where: str
) -> Mapping[str, Tensor]:
    """The state; with the model's own head where the state's has another class count, which `keep` refuses."""
    weight = f"{name}.weight" if name else "weight"
    if weight not in own or weight not in state or own[weight].shape[1:] != state[weight].shape[1:]:
        return state
    theirs, ours = len(state[weight]), len(own[weight])
    if theirs == ours:
        return state
    if head == "keep":
        text = f"{theirs} classes at '{name}', the data has {ours}: a `fit` stage adapts it"
        raise InputError(f"{where}: {text}")
    return {**state, **{key: own[key] for key in _of_heads(own, state, theirs, ours)}}


def _of_heads(own: Mapping[str, Tensor], state: Mapping[str, Tensor], theirs: int, ours: int) -> list[str]:
    """Tensors that differ in the number of classes only: of the classifier, and of auxiliary ones."""
    return [
        key
        for key in own
        if key in state and (own[key].shape[:1], state[key].shape[:1]) == ((ours,), (theirs,))
        if own[key].shape[1:] == state[key].shape[1:] and key.rpartition(".")[2] in ("weight", "bias")
    ]


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
