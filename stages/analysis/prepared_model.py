"""The original, traced and calibrated, as a search changes it; and what a plan makes of one layer of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from paredown.models.compression.channel_compensation import Moments
from paredown.models.compression.pruned_weights import PrunedWeights
from paredown.models.compression.scales import Range
from paredown.models.compression.sparsity import Sparsity
from paredown.models.compression.supernet import Branch, Replacements
from paredown.models.network.layers import ChannelGroup
from paredown.models.network.trace import Network
from paredown.stages.engines.base import TunedQuantization


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """The original, ready to be changed.

    `model` is the folded network as ONNX; `channel_ranking` lists every group's channels, the most important first;
    `ranges` holds the calibrated range of every value that could be quantized, under the names that torch and ONNX
    share; `moments` are those of what layers read that could lose channels; `pruned` holds the weights of layers that
    could become sparse; `tuned` is what the engine of int8 decided;
    `refused_groups` has the first layer of each group that cannot be narrowed, with the reason, until it is saved.
    The `weight_bits` of int8 and the `width_multiple` of fast channel counts are the runtime's. Where blocks can be
    replaced the network is a supernet with all its `branches`, until `network_of_plan` cuts a plan's own network out.
    """

    network: Network
    model: ModelProto
    groups: tuple[ChannelGroup, ...]
    channel_ranking: Mapping[str, tuple[int, ...]]
    ranges: Mapping[str, Range]
    weight_bits: int
    width_multiple: int
    branches: tuple[Branch, ...] = ()
    replacements: Replacements = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)
    pruned: PrunedWeights = field(default_factory=dict)
    tuned: TunedQuantization = field(default_factory=TunedQuantization)
    refused_groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def traced_only(cls, network: Network) -> "PreparedModel":
        """A network without anything that was calibrated, measured or exported: enough to look up its layers."""
        return cls(network, ModelProto(), (), {}, {}, weight_bits=8, width_multiple=8)


@dataclass(frozen=True)
class LayerForm:
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
