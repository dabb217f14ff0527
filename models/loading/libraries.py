"""Models of timm and torchvision, and the weights that these libraries download."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from paredown.models.errors import InputError, ParedownError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

PATIENCE = 5.0
"""Seconds within which a host must answer."""
_TORCHVISION = "https://download.pytorch.org"


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
    with in_one_line(source):
        find_library_model(source)
        library, _, name = source.partition("/")
        return _from_timm(name, classes) if library == "timm" else _from_torchvision(name, classes)


def find_library_model(source: str) -> None:
    """Raises InputError, with names like it, where the library has no such classifier."""
    library, _, name = source.partition("/")
    if library == "timm":
        import timm

        if not timm.is_model(name):
            raise _unknown("timm", name, timm.list_models())
        try:
            timm.get_pretrained_cfg(name)
        except RuntimeError as error:  # the weights that the name has after its dot
            raise _unknown("timm", name, timm.list_pretrained(f"{name.partition('.')[0]}.*")) from error
    else:
        models: Any = import_module("torchvision.models")
        names = models.list_models(module=models)
        if name not in names:
            raise _unknown("torchvision", name, names)


@contextmanager
def in_one_line(source: str) -> Iterator[None]:
    """Whatever a library raises in the block becomes an InputError that names the model."""
    try:
        yield
    except ParedownError:
        raise
    except Exception as error:
        raise InputError(f"model '{source}': {type(error).__name__}: {error}") from error


def _from_timm(name: str, classes: int) -> "nn.Module":
    import timm

    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model


def _from_torchvision(name: str, classes: int) -> "nn.Module":
    models: Any = import_module("torchvision.models")
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return model


def download_weights(source: str) -> "dict[str, Tensor]":
    """The library's own pretrained weights by parameter name. Raises InputError where there are none to be had."""
    library, _, name = source.partition("/")
    host = _hub() if library == "timm" else _TORCHVISION
    unreachable = why_unreachable(host)
    try:
        with _without_network() if unreachable else nullcontext():
            if library == "timm":
                import timm

                return dict(timm.create_model(name, pretrained=True).state_dict())
            models: Any = import_module("torchvision.models")
            return dict(models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True))
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        if unreachable:
            reason = f"{host} cannot be reached ({unreachable}), and they were not downloaded before"
        raise InputError(f"model '{source}': no pretrained weights to be had: {reason}") from error


def why_unreachable(host: str, patience: float = PATIENCE) -> str:
    """Why a web address does not answer within `patience` seconds; empty where it does, whatever it answers."""
    said: list[str] = []
    asking = Thread(target=lambda: said.append(_asked(host, patience)), daemon=True)
    asking.start()
    asking.join(patience)  # finding the host's address has no time limit of its own
    return said[0] if said else f"no answer within {patience:g} s"


def _asked(host: str, patience: float) -> str:
    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=patience).close()
    except (urllib.error.HTTPError, ssl.SSLError):
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return "" if isinstance(reason, ssl.SSLError) else str(reason) or type(error).__name__
    return ""


def _hub() -> str:
    """Where timm downloads from."""
    constants: Any = import_module("huggingface_hub.constants")
    return str(constants.ENDPOINT)


@contextmanager
def _without_network() -> Iterator[None]:
    """Only what lies on this disk is looked for: libraries try again and again for minutes otherwise."""
    constants: Any = import_module("huggingface_hub.constants")
    offline, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = True
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(patience)


def _unknown(library: str, name: str, names: Sequence[str]) -> InputError:
    close = ", ".join(get_close_matches(name, names)) or "nothing like it"
    return InputError(f"model '{library}/{name}': {library} has no such image classifier; it has {close}")
