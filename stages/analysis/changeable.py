"""Which layers of a prepared model can be changed in its ONNX graph too: the others are no site of any transform."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from paredown.models.compression.qdq import calibrated_nodes
from paredown.models.errors import InputError
from paredown.models.network.trace import Network
from paredown.models.network.weak_cache import remembered_per_object
from paredown.models.onnx.edit import constant_arrays, layers_with_own_weights
from paredown.stages.analysis.plan_network import covering_picks, network_of_plan, site_of
from paredown.stages.analysis.prepared_model import PreparedModel


def classifier_of(network: Network) -> str:
    """The last layer with weights, whose channels are the classes. Raises InputError for a network without any."""
    weighted = [layer.name for layer in network.layers if layer.op != "add"]
    if not weighted:
        others = f"; there are {', '.join(map(str, network.fixed[:3]))}" if network.fixed else ""
        raise InputError(f"the model has no Conv2d, and no Linear on (N, C), that could be changed{others}")
    return weighted[-1]


@remembered_per_object
def layers_that_quantize(prepared: PreparedModel) -> frozenset[str]:
    """The layers that can be int8: what they read and compute has a calibrated range in every network that they are
    in. All, as long as nothing was exported."""
    layers = {layer.name for layer in prepared.network.layers}
    if not prepared.model.graph.node:
        return frozenset(layers)
    for picks in covering_picks(prepared.branches):
        one = network_of_plan(prepared, {site_of(block): name for block, name in picks.items()})
        there = {layer.name for layer in one.network.layers}
        layers -= there - set(calibrated_nodes(one.model, one.ranges))
    weighted = {layer.name for layer in prepared.network.layers if layer.op != "add"}
    return frozenset(layers) - (weighted - layers_with_weights(prepared))


@remembered_per_object
def layers_with_weights(prepared: PreparedModel) -> frozenset[str]:
    """The layers whose weights can be changed: they are stored in the graph under the layer's name, as the module has
    them. The exporter may have put a norm into them that the trace still has. All, as long as nothing was exported."""
    layers = frozenset(layer.name for layer in prepared.network.layers if layer.op != "add")
    if not prepared.model.graph.node:
        return layers
    stored, module = constant_arrays(prepared.model), prepared.network.module
    there = layers & layers_with_own_weights(prepared.model)
    return frozenset(
        name for name in there if np.array_equal(stored[f"{name}.weight"], _weight(module, name), equal_nan=True)
    )


def _weight(module: nn.Module, layer: str) -> NDArray[np.float32]:
    weight: NDArray[np.float32] = module.get_parameter(f"{layer}.weight").detach().cpu().numpy()
    return weight
