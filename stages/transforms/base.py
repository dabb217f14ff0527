"""What a transform is. A file in this folder is a transform; its name is its name in the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

from paredown.models.graph import ChannelGroup, Layer, Network
from paredown.models.qdq import Range
from paredown.models.sparse import Sparsity
from paredown.models.supernet import Branch, Replacements
from paredown.stages.carry import Moments
from paredown.stages.engines.base import Tuned
from paredown.stages.patches import Pruned
from paredown.stages.problem import Site

Choice = Mapping[str, str]
"""Site to candidate. A site that is not named stays as it is: its first candidate."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The original, ready to be changed.

    `model` is the folded network as ONNX; `order` lists every group's channels, the most important first; `ranges`
    holds the calibrated range of every value that could be quantized, under the names that torch and ONNX share;
    `moments` are those of what layers read that could lose channels; `pruned` holds the weights of layers that could
    become sparse; `tuned` is what the engine of int8 decided.
    `bits` of int8 weights and the `multiple` of fast channel counts are the runtime's. Where blocks can be replaced the
    network is a supernet with all its `branches`, until `structure.under` cuts a plan's own network out of it.
    """

    network: Network
    model: ModelProto
    groups: tuple[ChannelGroup, ...]
    order: Mapping[str, tuple[int, ...]]
    ranges: Mapping[str, Range]
    bits: int
    multiple: int
    branches: tuple[Branch, ...] = ()
    replacements: Replacements = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)
    pruned: Pruned = field(default_factory=dict)
    tuned: Tuned = field(default_factory=Tuned)


@dataclass(frozen=True)
class Form:
    """What a plan makes of one layer: all that its time, size and memory depend on.

    `pixels` are height x width of what it reads and of what it computes; None: as many as in the original.
    """

    channels_in: int
    channels_out: int
    bits: int = 32
    pixels: tuple[int, int] | None = None
    sparsity: Sparsity | None = None

    @property
    def kernel(self) -> str:
        """What computes it, as far as its time depends on that: `int8`, or `fp32 block4@0.8`."""
        return f"{self.precision} {self.sparsity}" if self.sparsity else self.precision

    @property
    def precision(self) -> str:
        return "int8" if self.bits == 8 else "fp32"


class Transform(Protocol):
    """One kind of change. Implementations are frozen options objects and see a plan's whole choice.

    Every site is named `<transform>:<place>`, and its first candidate leaves the network as it is. `FEATURE` is what
    the runtime must support (`Runtime.supports`) for the transform to gain anything. A transform may have
    `pinned(subject)`: sites that are not for the search to choose, with the candidate that each must have.
    """

    REQUIRES: ClassVar[Mapping[str, str]]
    FEATURE: ClassVar[str]

    def sites(self, subject: Subject) -> tuple[Site, ...]:
        """The places that can change, with their candidates; costs and losses are measured later."""

    def touching(self, subject: Subject, layer: Layer) -> tuple[str, ...]:
        """The sites whose candidates change this layer's form."""

    def form(self, subject: Subject, layer: Layer, form: Form, choice: Choice) -> Form:
        """The layer's form after this transform."""

    def uniform(self, subject: Subject) -> tuple[Choice, ...]:
        """A few choices that change the whole network alike, to be profiled."""

    def imitate(self, subject: Subject, choice: Choice, graph: GraphModule) -> GraphModule:
        """The traced network as if the choice were made, channels that go at zero; parameters may be changed in
        place, `graph` itself stays as it is."""

    def lower(self, subject: Subject, choice: Choice, model: ModelProto) -> ModelProto:
        """The choice made in the ONNX graph, weights kept where they are kept: for measuring, without training."""

    def apply(self, subject: Subject, choice: Choice, module: nn.Module) -> nn.Module:
        """The choice made in the user's own module, before it is trained."""
