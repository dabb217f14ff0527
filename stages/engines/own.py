"""`own`: percentiles of what calibration images make of every value."""

from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from paredown.models.compression.fake_quant import observe_ranges
from paredown.models.compression.scales import Range
from paredown.models.network.trace import Network
from paredown.stages.engines.base import Engine, Labelled, TunedQuantization


class OwnCalibration(Engine):
    """Refuses no layer: which of them stay in fp32 is left to the search."""

    def tune(
        self, network: Network, images: Sequence[Tensor], validation: Callable[[int], Labelled]
    ) -> TunedQuantization:
        return TunedQuantization(decisions={"engine": "own"})

    def ranges(
        self, network: Network, images: Sequence[Tensor], values: Collection[str], fp32: Collection[str]
    ) -> dict[str, Range]:
        return observe_ranges(network.graph, images, values)


PLUGIN = OwnCalibration
