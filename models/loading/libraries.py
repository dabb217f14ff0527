"""Models of timm and torchvision, and the weights that these libraries download."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.models.errors import InputError, ParedownError

if TYPE_CHECKING:
    from torch import Tensor, nn


@cache
def quiet_torchvision() -> object:
    """Makes torchvision importable where its compiled operators do not load; call it before the import.

    A torchvision wheel that was built for another torch (such as a CUDA wheel beside a CPU torch) cannot load
    its operators, and then fails to import because it registers shapes for two of them. They are for object
    detection only, so declaring them is enough. Does nothing where the operators load. Returns the library
    object, cached, because the declarations live as long as it does.
    """
    torch: Any = import_module("torch")
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for binary in sorted(Path(folder).glob("_C.*")):
            try:
                torch.ops.load_library(str(binary))
            except OSError:
                continue
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def from_library(source: str, classes: int) -> "nn.Module":
    """The model of `timm/<name>` or `torchvision/<name>` with fresh weights. Raises InputError where there is none."""
    quiet_torchvision()
    library, _, name = source.partition("/")
    try:
        return _from_timm(name, classes) if library == "timm" else _from_torchvision(name, classes)
    except ParedownError:
        raise
    except Exception as error:
        raise InputError(f"model '{source}': {type(error).__name__}: {error}") from error


def _from_timm(name: str, classes: int) -> "nn.Module":
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model


def _from_torchvision(name: str, classes: int) -> "nn.Module":
    models: Any = import_module("torchvision.models")
    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names)
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return model


def download_weights(source: str) -> "dict[str, Tensor]":
    """The library's own pretrained weights by parameter name. Raises InputError where there are none to be had."""
    library, _, name = source.partition("/")
    try:
        if library == "timm":
            import timm

            return dict(timm.create_model(name, pretrained=True).state_dict())
        models: Any = import_module("torchvision.models")
        return dict(models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True))
    except Exception as error:
        text = f"model '{source}': no pretrained weights to be had ({type(error).__name__}: {error})"
        raise InputError(text) from error


def _unknown(library: str, name: str, names: Sequence[str]) -> InputError:
    close = ", ".join(get_close_matches(name, names)) or "nothing like it"
    return InputError(f"model '{library}/{name}': {library} has no such image classifier; it has {close}")
