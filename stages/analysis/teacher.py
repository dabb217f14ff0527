"""The original network, as later stages need it: the teacher, and the weights of what was made from it."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.loading.model import Head, LoadedModel, open_model
from paredown.models.loading.plain_modules import in_evaluation_mode
from paredown.models.loading.tensors import load_tensors
from paredown.models.network.answers import with_one_output
from paredown.stages.base import State


def load_teacher(state: State, data: ImageData) -> nn.Module:
    """The module of `open_teacher`."""
    return open_teacher(state, data).module


def open_teacher(state: State, data: ImageData) -> LoadedModel:
    """The untouched original in evaluation mode: as fitted by this run, or as the recipe's weights have it; with what
    there is to say of these weights."""
    fitted = state.products.get("original")
    loaded = open_original(state, data, head="replace" if fitted else "keep")
    if fitted:
        load_weights(loaded.module, fitted / "weights.safetensors")
    loaded.module.requires_grad_()  # what is pared down is trained again, whatever was frozen before
    return LoadedModel(in_evaluation_mode(loaded.module), () if fitted else loaded.notes)


def open_original(state: State, data: ImageData, head: Head) -> LoadedModel:
    """The recipe's model as `open_model` gives it, answering with one tensor of logits (images, classes)."""
    classes = len(data.classes)
    loaded = open_model(state.model, classes, state.root, head=head, side=state.data.image_size)
    return replace(loaded, module=with_one_output(loaded.module, state.image_shape, classes, state.model.output))


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes all parameters and buffers of a module as safetensors, tied ones under each of their names."""
    # The format refuses names that share memory.
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into a module of the same shapes."""
    load_tensors(module, load_file(path))
