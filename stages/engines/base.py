"""What an engine is. A file in this folder is an engine; its name is its name in the recipe (`-` may stand for `_`)."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from paredown.models.compression.scales import Range
from paredown.models.network.trace import Network
from paredown.models.spec import Spec

Labelled = Iterable[tuple[Tensor, Tensor]]
"""Batches of images (N, 3, H, W) and labels (N,)."""


@dataclass(frozen=True)
class TunedQuantization:
    """What an engine decided on the original: `refused` names the layers that must stay in fp32; `decisions` is what
    reports say of it, as plain data that holds at least its name as `engine`."""

    refused: tuple[str, ...] = ()
    decisions: Mapping[str, Any] = field(default_factory=dict)


class Engine(Spec):
    """A source of int8's scales. Implementations are frozen options objects, and deterministic.

    Which layers become int8 in the end is the search's to choose, among those that the engine does not refuse.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Importable modules that may be missing, and the extra (`pip install "paredown[extra]"`) that brings each."""

    @abstractmethod
    def tune(
        self, network: Network, images: Sequence[Tensor], validation: Callable[[int], Labelled]
    ) -> TunedQuantization:
        """Decides, once, on the original. `images` are calibration batches, `validation(n)` gives n labelled images."""

    @abstractmethod
    def ranges(
        self, network: Network, images: Sequence[Tensor], values: Collection[str], fp32: Collection[str]
    ) -> dict[str, Range]:
        """The range of every value in `values` over calibration batches, of a network whose layers `fp32` stay so."""
