"""What a transform is. A file in this folder is a transform; its name is its name in the recipe."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

from paredown.models.network.layers import Layer
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.solvers.problem import Choice, Site


class Transform(Protocol):
    """One kind of change. Implementations are frozen options objects and see a plan's whole choice.

    Every site is named `<transform>:<place>`, and its first candidate leaves the network as it is. `FEATURE` is what
    the runtime must support (`Runtime.supports`) for the transform to gain anything. A transform may have
    `pinned(subject)`: sites that are not for the search to choose, with the candidate that each must have.
    """

    REQUIRES: ClassVar[Mapping[str, str]]
    FEATURE: ClassVar[str]

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        """The places that can change, with their candidates; costs and losses are measured later."""

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        """The sites whose candidates change this layer's form."""

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        """The layer's form after this transform."""

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        """A few choices that change the whole network alike, to be profiled."""

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        """The traced network as if the choice were made, channels that go at zero; parameters may be changed in
        place, `graph` itself stays as it is."""

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        """The choice made in the ONNX graph, weights kept where they are kept: for measuring, without training."""

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        """The choice made in the user's own module, before it is trained."""
