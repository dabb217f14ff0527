"""What a transform is. A file in this folder is a transform; its name is its name in the recipe."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

from paredown.models.compression.sparsity import Sparsity
from paredown.models.network.layers import ChannelGroup, Layer
from paredown.models.spec import Spec
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.engines.base import Engine
from paredown.stages.runtimes.base import Runtime
from paredown.stages.solvers.problem import Choice, Site

OTHERWISE = "changed otherwise"
"""What `paredown diff` calls a change that no transform has a name for."""


@dataclass(frozen=True)
class LayerNumbers:
    """Numbers of a layer that a site's name and candidates alone say: channels, those that stay, and bits."""

    width: int | None = None
    kept: int | None = None
    bits: int | None = None


class Transform(Spec):
    """One kind of change. Implementations are frozen options objects and see a plan's whole choice.

    Every site is named `<transform>:<place>`, by this transform or by the one that it builds on, and its first
    candidate leaves the network as it is. What has no default below must be there; the rest is for transforms that
    search, training, reports or `paredown diff` have to know more of.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Importable modules that may be missing, and the extra (`pip install "paredown[extra]"`) that brings each."""
    FEATURE: ClassVar[str]
    """What the runtime must support (`Runtime.supports`) for it to gain anything; empty where any runtime gains."""
    ORDER: ClassVar[int] = 0
    """Transforms are applied from the smallest to the largest; those of one number as the recipe lists them."""
    NEEDS: ClassVar[tuple[str, ...]] = ()
    """Products of earlier stages that it needs. With `library`, the network is prepared with that product's blocks."""
    RUNS_ANYWHERE: ClassVar[bool] = False
    """Whether any runtime runs what it makes: where that gains nothing it is left out with a note, and not refused."""
    CHANGES: ClassVar[Mapping[str, int]] = {}
    """What `change_kind` may say, with its place among the kinds of change that `paredown diff` lists."""

    @abstractmethod
    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        """The places that can change, with their candidates; costs and losses are measured later."""

    @abstractmethod
    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        """The sites whose candidates change this layer's form."""

    @abstractmethod
    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        """The layer's form after this transform."""

    @abstractmethod
    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        """A few choices that change the whole network alike, to be profiled."""

    @abstractmethod
    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        """The traced network as if the choice were made, channels that go at zero; parameters may be changed in
        place, `graph` itself stays as it is."""

    @abstractmethod
    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        """The choice made in the ONNX graph, weights kept where they are kept: for measuring, without training."""

    @abstractmethod
    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        """The choice made in the user's own module, before it is trained."""

    def coverage(self, prepared: PreparedModel) -> str:
        """What it can change here, in a few words for `paredown check`: by default how many layers it touches,
        of all convolutions, linear layers and layers that stay as they are."""
        weighted = [layer for layer in prepared.network.layers if layer.op != "add"]
        touched = sum(bool(self.touching(prepared, layer)) for layer in weighted)
        return f"{touched} of {len(weighted) + len(prepared.network.fixed)} layers"

    def pinned(self, prepared: PreparedModel) -> Mapping[str, str]:
        """Sites that are not for the search to choose, with the candidate that each must have."""
        return {}

    def engine_of_int8(self, root: Path) -> Engine | None:
        """The engine that calibrates int8, where these options name one. Raises MissingError where it is not
        installed."""
        return None

    def pays(self, runtime: Runtime, container: str) -> bool:
        """Whether what it makes saves time or bytes on a runtime, its files stored in a container or `plain`."""
        return not self.FEATURE or runtime.supports(self.FEATURE)

    def no_gain(self) -> tuple[str, str]:
        """Where it does not pay: what the runtime does, as in `<runtime> <does so>`, and what would gain instead."""
        return f"does not support {self.FEATURE}", ""

    def pruned_beforehand(self, layer: Layer) -> Sequence[Sparsity]:
        """What the layer's weights are to be pruned to, with reconstruction, when the model is prepared."""
        return ()

    def sparse_layers(self, choice: Choice) -> Mapping[str, Sparsity]:
        """The layers whose weights get zeros; training keeps these zeros, or grows them."""
        return {}

    def kept_channels(
        self, prepared: PreparedModel, group: ChannelGroup, choice: Choice, channels: Sequence[int]
    ) -> Sequence[int]:
        """Those of a group's `channels` that stay, in order: there the student is taught the teacher's features."""
        return channels

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        """What `paredown diff` calls the change of a site from one candidate to another: one of `CHANGES`."""
        return OTHERWISE

    @classmethod
    def describe(cls, unchanged: str, picked: str) -> LayerNumbers | None:
        """What a drawing shows in a layer's row of a site, from its first candidate and the picked one. None: the site
        gets a row of its own, with the candidate's name."""
        return None
