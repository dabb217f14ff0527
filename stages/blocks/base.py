"""What a block is. A file in this folder is a kind of block that can be substituted in; its name is its name in the
recipe."""

import re
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.models.compression.supernet import ABSORBED, KEEP, MERGED
from paredown.models.errors import InputError, first_line
from paredown.models.network.blocks import Place
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.export import export_onnx
from paredown.models.spec import Spec
from paredown.stages.plugins import comes_with_paredown, make_plugin

Kernel = int | tuple[int, int]


class Block(Spec):
    """A frozen options object that builds replacements for a block.

    A replacement maps (N, *place.shape_in) to (N, *place.shape_out). Where its last convolution is dense and has a
    batch norm behind it, that convolution is solved by least squares before the replacement is trained.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Importable modules that may be missing, and the extra (`pip install "paredown[extra]"`) that brings each."""

    @abstractmethod
    def build(self, place: Place) -> Mapping[str, nn.Module]:
        """Replacements with fresh weights by the end of their name; empty where none fits the place."""


class ResidualBlock(nn.Module):
    """`body`, its input added where the place allows it, and the activation that the block closes with."""

    def __init__(self, place: Place, body: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(OrderedDict(body))
        self.shortcut = place.same_shape
        self.closing = place.activation() if place.closing else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.closing(x + y if self.shortcut else y)  # type: ignore[no-any-return]


def conv_unit(
    channels: tuple[int, int], kernel: Kernel = 1, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Module:
    """Convolution, batch norm and, where given, an activation; the map shrinks by `stride` only."""
    sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sizes[0] // 2, sizes[1] // 2)
    conv = nn.Conv2d(*channels, sizes, stride, padding, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels[1]), **({"act": act} if act else {})))


def kernel_name(kernel: Kernel) -> str:
    """`k3`, or `k5x3` for an asymmetric one."""
    return f"k{kernel}" if isinstance(kernel, int) else f"k{kernel[0]}x{kernel[1]}"


def replacements_for(place: Place, named: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, nn.Module]:
    """Every replacement of the named kinds, `<kind>` or `<kind>_<variant>`; always with the same fresh weights.

    Of two that are built alike (two ratios that round to one width) only the first is there; blocks of a user's own
    file may differ in what only their code tells, and all stay.
    Raises InputError, with the kind's name, where a kind cannot be built or does not keep to the shapes of its place.
    """
    modules: dict[str, nn.Module] = {}
    for name, options in named.items():
        try:
            block: Block = make_plugin("blocks", name, options, root)
        except InputError as error:
            raise InputError(f"library.blocks: {error}") from error
        for variant, module in _built(name, block, place).items():
            _check_shape(name, variant, module, place)
            full = "_".join(filter(None, (Path(name).stem, variant)))
            taken = full in modules or full in (KEEP, ABSORBED) or full.startswith(MERGED)
            if taken or not re.fullmatch(r"[A-Za-z0-9_-]+", full):
                allowed = f"letters, digits, _ and -, each name once, none of {KEEP}, {ABSORBED}, {MERGED}..."
                raise InputError(f"library.blocks: {name} builds '{full}' at {place.name}; allowed: {allowed}")
            modules[full] = module
    alike = {str(module): name for name, module in reversed(modules.items())}
    own = tuple(Path(name).stem for name in named if not comes_with_paredown("blocks", name))
    return {n: module for n, module in modules.items() if alike[str(module)] == n or n.startswith(own)}


def _built(name: str, block: Block, place: Place) -> Mapping[str, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return block.build(place)
        except Exception as error:
            text = f"library.blocks: {name} cannot be built for {place.name}: {type(error).__name__}: {error}"
            raise InputError(text) from error


def _check_shape(name: str, variant: str, module: nn.Module, place: Place) -> None:
    where = f"library.blocks: {name}{f' ({variant})' if variant else ''} at {place.name}"
    try:
        with torch.inference_mode():
            got = tuple(module.eval()(torch.zeros(2, *place.shape_in)).shape)
    except Exception as error:
        raise InputError(f"{where}: {type(error).__name__}: {first_line(error)}") from error
    if got != (2, *place.shape_out):
        raise InputError(f"{where} makes {got[1:]} of {place.shape_in}; it must make {place.shape_out}")


def check_user_blocks(places: Sequence[Place], named: Mapping[str, Mapping[str, Any]], root: Path) -> None:
    """Traces and exports the blocks of files that the recipe names, each at the first place of either sort.

    The sorts are same shape and other shape. Raises InputError with the block's name. The blocks that come with
    paredown have tests for that.
    """
    own = {name: options for name, options in named.items() if not comes_with_paredown("blocks", name)}
    for place in {place.same_shape: place for place in reversed(places)}.values() if own else ():
        for name, module in replacements_for(place, own, root).items():
            _check_trace(name, module, place)


def _check_trace(name: str, module: nn.Module, place: Place) -> None:
    try:
        export_onnx(analyse_network(module, place.shape_in).module, place.shape_in)
    except InputError as error:
        reason = str(error).replace("the model", "it", 1)
        raise InputError(f"library.blocks: {name} at {place.name}: {reason}") from error
