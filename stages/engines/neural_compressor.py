"""`neural-compressor`: scales and fp32 layers as Intel's neural-compressor 3.x calibrates and tunes them.

It takes our own trace for its `export`, so that values and layers have our names. Its scales become ranges that give
them back to the last bit (`range_of_scale`). It leaves some values open, such as residual additions, which this
project's int8 layers need: these take the range that our own engine observes. Weights are rounded by our writer: as
neural-compressor has it, symmetric and one scale a channel, but in the bits that the runtime computes exactly.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import accumulate, repeat, takewhile
from operator import add
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from paredown.models.compression.fake_quant import imitate_int8, observe_ranges
from paredown.models.compression.scales import Range, range_of_scale
from paredown.models.network.nodes import operator_name, source_node
from paredown.models.network.trace import Network
from paredown.stages.engines.base import Engine, Labelled, TunedQuantization

BITS = 8
"""Of neural-compressor's weights; what the runtime's own bits cost is the search's to weigh."""

_SOURCES = {
    "add": add,
    "clamp": nn.Hardtanh,
    "conv2d": nn.Conv2d,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "linear": nn.Linear,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}
"""Operators to the sources by which neural-compressor finds what belongs together: a convolution and its ReLU."""


class NeuralCompressor(Engine):
    """Tries int8 everywhere, then 1, 2, 4, ... of the most sensitive layers in fp32, until the loss is tolerable."""

    REQUIRES: ClassVar[Mapping[str, str]] = {"neural_compressor": "neural-compressor", "torchao": "neural-compressor"}

    tolerable_loss: float = Field(0.01, ge=0, lt=1, description="share of the original's top-1 that int8 may cost")
    images: int = Field(512, ge=8, description="validation images on which top-1 is measured")

    def tune(
        self, network: Network, images: Sequence[Tensor], validation: Callable[[int], Labelled]
    ) -> TunedQuantization:
        order = self._by_sensitivity(network, images)
        steps = [0, *takewhile(lambda count: count < len(order), accumulate(repeat(2), int.__mul__, initial=1))]
        judged, scores = list(validation(self.images)), list[float]()

        def score(model: GraphModule) -> float:
            scores.append(_top1(model, judged))
            return max(scores[-1], 1e-6)  # the loss is relative

        with _quiet():
            from neural_compressor.torch.quantization import TuningConfig, autotune

            configs = [_configuration(order[:count]) for count in steps]
            tuning = TuningConfig(config_set=configs, tolerable_loss=self.tolerable_loss, max_trials=len(configs))
            tuned = autotune(_exported(network), tuning, score, run_fn=lambda model: _run(model, images))
        (config,) = tuned.qconfig.values()
        refused = [layer.name for layer in network.layers if layer.name in config.local_config]
        decisions = {
            "engine": "neural-compressor",
            "version": version("neural-compressor"),
            "tolerable_loss": self.tolerable_loss,
            "images": sum(len(labels) for _, labels in judged),
            "original_top1": scores[0],
            "trials": [{"fp32": steps[i], "top1": top1} for i, top1 in enumerate(scores[1:])],
            "fp32": refused,
        }
        return TunedQuantization(tuple(refused), decisions)

    def ranges(
        self, network: Network, images: Sequence[Tensor], values: Collection[str], fp32: Collection[str]
    ) -> dict[str, Range]:
        calibrated = _calibrated(network, images, fp32)
        rest = [value for value in values if value not in calibrated]
        own = observe_ranges(network.graph, images, rest) if rest else {}
        return {value: calibrated[value] for value in values if value in calibrated} | own

    def _by_sensitivity(self, network: Network, images: Sequence[Tensor]) -> list[str]:
        """The weighted layers, those first whose rounding alone moves the logits of a batch furthest."""
        layers = [layer for layer in network.layers if layer.op != "add"]
        inputs = {value for layer in layers for value in layer.inputs}
        ranges = self.ranges(network, images, inputs, ())
        moved = dict[str, float]()
        with torch.no_grad():
            plain = network.graph(images[0])
            for layer in layers:
                one = imitate_int8(network.graph, {v: ranges[v] for v in layer.inputs}, [layer.name], BITS)
                moved[layer.name] = float((one(images[0]) - plain).square().mean())
        return sorted(moved, key=lambda name: -moved[name])


def _calibrated(network: Network, images: Sequence[Tensor], fp32: Collection[str]) -> dict[str, Range]:
    """The ranges of all values that neural-compressor quantizes; what is only reshaped lends its own to its source."""
    with _quiet():
        from neural_compressor.torch.quantization import convert, prepare

        prepared = prepare(_exported(network), _configuration(fp32))
        _run(prepared, images)
        converted = convert(prepared)
    quantized = {node.args[0]: range_of_scale(*_scale(node)) for node in converted.graph.nodes if _quantizes(node)}
    behind = {source_node(value).name: bounds for value, bounds in quantized.items()}
    return behind | {value.name: bounds for value, bounds in quantized.items()}


def _exported(network: Network) -> GraphModule:
    """A copy of the trace in the form that neural-compressor's own `export` gives.

    There every call has a source of its own; here the two calls of one ReLU module would be taken for one operation.
    """
    graph: Any = copy.deepcopy(network.graph)
    for node in graph.graph.nodes:
        if operator_name(node) in _SOURCES:
            node.meta["source_fn_stack"] = [(node.name, _SOURCES[operator_name(node)])]
    graph._exported, graph.dynamic_shapes = True, None
    return graph  # type: ignore[no-any-return]


def _configuration(fp32: Collection[str]) -> Any:
    from neural_compressor.torch.quantization import StaticQuantConfig

    config = StaticQuantConfig()
    for name in fp32:
        config.set_local(name, StaticQuantConfig(w_dtype="fp32", act_dtype="fp32"))
    return config


def _quantizes(node: Node) -> bool:
    return operator_name(node) == "quantize_per_tensor"


def _scale(node: Node) -> tuple[float, int]:
    scale, zero, low, high = node.args[1:5]
    assert isinstance(scale, float) and isinstance(zero, int) and (low, high) == (0, 255)
    return scale, zero


def _run(model: GraphModule, images: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for batch in images:
            model(batch)


def _top1(model: GraphModule, batches: Labelled) -> float:
    with torch.no_grad():
        right = torch.cat([_right(model(images), labels) for images, labels in batches])
    return float(right.double().mean())


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """Of every image whether its class is right; one whose logits are not all finite is not."""
    return logits.isfinite().all(1) & (logits.argmax(1) == labels)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what neural-compressor logs at every step, and what the packages below it warn of when imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


PLUGIN = NeuralCompressor
