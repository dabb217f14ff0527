"""`quantize`: int8 layer by layer, as QDQ in the artifact."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from onnx import ModelProto
from pydantic import Field
from torch import nn
from torch.fx import GraphModule

from paredown.models.compression.fake_quant import imitate_int8
from paredown.models.compression.qdq import insert_qdq, quantized_values
from paredown.models.errors import InputError
from paredown.models.network.layers import Layer
from paredown.stages.analysis.changeable import layers_that_quantize
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.engines.base import Engine
from paredown.stages.plugins import make_named
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.base import OTHERWISE, LayerNumbers, Transform
from paredown.stages.transforms.layer_patterns import matched_layers

PREFIX = "quantize:"
FLOAT, INT8 = "fp32", "int8"
SHOWN = 4
"""Layers that are named where some cannot be int8."""


class Quantize(Transform):
    """Chooses fp32 or int8 for every convolution, linear layer and residual addition."""

    FEATURE: ClassVar[str] = "int8"
    ORDER: ClassVar[int] = 3
    CHANGES: ClassVar[Mapping[str, int]] = {"fp32 to int8": 20, "int8 to fp32": 21}

    engine: str | dict[str, dict[str, Any]] = Field(
        "own", description="what calibrates: an engine's name, or path/to/file.py; or that name with its options"
    )
    layers: dict[str, Literal["fp32", "int8"]] = Field(
        {}, description="layers by name or regular expression that are not the search's to choose; the first one counts"
    )

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        candidates = (Candidate(FLOAT), Candidate(INT8))
        return tuple(Site(PREFIX + name, candidates) for name in _layers(prepared))

    def pinned(self, prepared: PreparedModel) -> Mapping[str, str]:
        """What the recipe says of layers, and those that the engine refuses."""
        listed = matched_layers([layer.name for layer in prepared.network.layers], self.layers, "quantize.layers")
        for name in self.layers.keys() & listed.keys() - layers_that_quantize(prepared):
            if listed[name] == INT8:
                raise InputError(f"quantize.layers: {name} cannot be int8: the exported file computes it otherwise")
        return {
            PREFIX + name: bits for name, bits in {**dict.fromkeys(prepared.tuned.refused, FLOAT), **listed}.items()
        }

    def coverage(self, prepared: PreparedModel) -> str:
        """The layers that can be int8, and those that cannot."""
        weighted = [layer.name for layer in prepared.network.layers if layer.op != "add"]
        float_only = [name for name in weighted if name not in layers_that_quantize(prepared)]
        left = [*map(str, prepared.network.fixed), *float_only]
        more = f", and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        return super().coverage(prepared) + (f"; fp32: {', '.join(left[:SHOWN])}{more}" if left else "")

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        return (PREFIX + layer.name,) if layer.name in layers_that_quantize(prepared) else ()

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        return replace(form, bits=8) if choice.get(PREFIX + layer.name) == INT8 else form

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        return ({PREFIX + name: INT8 for name in _layers(prepared)},)

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        chosen = int8_layers(choice)
        if not chosen:
            return graph
        origins = set(quantized_values(prepared.model, chosen, prepared.ranges).values())
        ranges = {value: prepared.ranges[value] for value in origins if value in prepared.ranges}
        return imitate_int8(graph, ranges, chosen, prepared.weight_bits)

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        chosen = int8_layers(choice)
        return insert_qdq(model, chosen, prepared.ranges, prepared.weight_bits) if chosen else model

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        """The module stays in float; recovery imitates int8 while it trains, and the artifact has it for real."""
        return module

    def engine_of_int8(self, root: Path) -> Engine:
        engine: Engine = make_named("engines", self.engine, "quantize.engine", root)
        return engine

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        return f"{before} to {after}" if {before, after} == {FLOAT, INT8} else OTHERWISE

    @classmethod
    def describe(cls, unchanged: str, picked: str) -> LayerNumbers:
        return LayerNumbers(bits=8 if picked == INT8 else 32)


def _layers(prepared: PreparedModel) -> list[str]:
    """The layers that can be int8, in order."""
    possible = layers_that_quantize(prepared)
    return [layer.name for layer in prepared.network.layers if layer.name in possible]


def int8_layers(choice: Choice) -> list[str]:
    """The layers that the choice makes int8."""
    return [site.removeprefix(PREFIX) for site, name in choice.items() if site.startswith(PREFIX) and name == INT8]


PLUGIN = Quantize
