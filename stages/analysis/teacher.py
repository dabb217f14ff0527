"""The original network, as later stages need it: the teacher, and the weights of what was made from it."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.loading.model import load_model
from paredown.stages.base import State


def load_teacher(state: State, data: ImageData) -> nn.Module:
    """The untouched original in evaluation mode: as fitted by this run, or as the recipe's weights have it."""
    fitted = state.products.get("original")
    module = load_model(state.model, len(data.classes), state.root, head="replace" if fitted else "keep")
    if fitted:
        load_weights(module, fitted / "weights.safetensors")
    return module.eval()


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes all parameters and buffers of a module as safetensors."""
    save_file({name: value.contiguous().cpu() for name, value in module.state_dict().items()}, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into a module of the same shapes."""
    module.load_state_dict(load_file(path))
