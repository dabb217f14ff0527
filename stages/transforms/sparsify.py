"""`sparsify`: zeros in the weights, layer by layer, in patterns that the runtime skips."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from onnx import ModelProto
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.fx import GraphModule

from paredown.models.compression.sparsity import (
    PATTERNS,
    Sparsity,
    parsed_n_of_m,
    prune_by_magnitude,
    prune_live_channels,
)
from paredown.models.errors import InputError
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.network.layers import Layer
from paredown.models.onnx.edit import constant_arrays, copy_of_model, layer_weight, set_weight, weighted_nodes
from paredown.stages.analysis.changeable import layers_with_weights
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.runtimes.base import Runtime
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.base import LayerNumbers, Transform
from paredown.stages.transforms.layer_patterns import matched_layers

PREFIX = "sparsify:"
DENSE = "dense"


class Sparsify(Transform):
    """Chooses for every convolution and linear layer how many of its weights are zero, and in which pattern."""

    FEATURE: ClassVar[str] = "sparse"
    ORDER: ClassVar[int] = 2
    RUNS_ANYWHERE: ClassVar[bool] = True
    CHANGES: ClassVar[Mapping[str, int]] = {"sparser": 30, "denser": 31, "other pattern of zeros": 32}

    levels: tuple[float, ...] = Field(
        (0.5, 0.6, 0.7, 0.8, 0.9, 0.95), description="shares of a layer's weights that may be zero"
    )
    patterns: tuple[str, ...] = Field(
        ("block4",),
        description='`unstructured`: any weight; `block4`: blocks of 4 along input channels; `"2:4"` and the like, in '
        "quotes: 2 of 4 input channels in a row stay",
    )
    method: Literal["obs", "magnitude"] = Field(
        "obs", description="`obs` lets the weights that stay take over what the others did; `magnitude` only drops"
    )

    layers: dict[str, Annotated[float, Field(gt=0, lt=1)] | str] = Field(
        {},
        description="layers by name or regular expression that are not the search's to choose: a level, `dense`, or a "
        "pattern with its level such as `block4@0.8` or `2:4`; the first one counts",
    )

    @field_validator("layers")
    @classmethod
    def are_sparsities(cls, layers: dict[str, float | str]) -> dict[str, float | str]:
        for level in layers.values():
            if isinstance(level, str) and level != DENSE:
                Sparsity.parse(level)
        return layers

    @model_validator(mode="after")
    def levels_have_a_pattern(self) -> "Sparsify":
        bare = [name for name, level in self.layers.items() if not isinstance(level, str)]
        if bare and all(parsed_n_of_m(pattern) for pattern in self.patterns):
            raise ValueError(f"layers: {bare[0]}: a level needs a pattern; say block4@{self.layers[bare[0]]:g} or 2:4")
        return self

    @field_validator("levels")
    @classmethod
    def are_shares(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or not all(0 < level < 1 for level in levels):
            raise ValueError("must be one or more numbers above 0 and under 1")
        return tuple(sorted(set(levels)))

    @field_validator("patterns")
    @classmethod
    def are_known(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [pattern for pattern in patterns if pattern not in PATTERNS and not parsed_n_of_m(pattern)]
        if unknown or not patterns:
            raise ValueError(f"{unknown} not known; allowed: {', '.join(PATTERNS)}, and N:M such as 2:4")
        return patterns

    def offers(self, layer: Layer) -> tuple[Sparsity, ...]:
        """What a layer may become, from mild to harsh; nothing for layers whose channels the pattern does not fit."""
        if layer.op == "add" or layer.groups > 1:
            return ()
        pinned = matched_layers([layer.name], self.layers, "sparsify.layers", strict=False).get(layer.name)
        named = [f"{p}@{level:g}" for p in self.patterns if not parsed_n_of_m(p) for level in self.levels]
        named += [p for p in self.patterns if parsed_n_of_m(p)]
        # Of a pinned layer only what it is pinned to is worth the time that pruning and profiling take.
        sparsities = [Sparsity.parse(n) for n in named] if pinned in (None, DENSE) else [self._sparsity_of(pinned)]
        return tuple(sorted((s for s in dict.fromkeys(sparsities) if layer.channels_in % s.group == 0), key=_level))

    def _offers_in(self, prepared: PreparedModel, layer: Layer) -> tuple[Sparsity, ...]:
        """The same, but nothing for a layer that the exported file computes otherwise."""
        return self.offers(layer) if layer.name in layers_with_weights(prepared) else ()

    def _sparsity_of(self, level: float | str | None) -> Sparsity:
        """What the recipe says of a layer; a level alone has the first pattern that comes with one."""
        pattern = next((p for p in self.patterns if not parsed_n_of_m(p)), "unstructured")
        return Sparsity.parse(level) if isinstance(level, str) else Sparsity(pattern, float(level or 0))

    def pinned(self, prepared: PreparedModel) -> Mapping[str, str]:
        """What the recipe says of layers, of those that its pattern fits.

        Raises InputError for a layer that is named, and not only met by an expression, but cannot be so.
        """
        layers = {layer.name: layer for layer in prepared.network.layers if layer.op != "add"}
        pinned = {}
        for name, level in matched_layers(list(layers), self.layers, "sparsify.layers").items():
            offers = [DENSE, *map(str, self._offers_in(prepared, layers[name]))]
            wanted = DENSE if level == DENSE else str(self._sparsity_of(level))
            if wanted in offers:
                pinned[PREFIX + name] = wanted
            elif name in self.layers:
                raise InputError(f"sparsify.layers: {name} cannot be {wanted}: its channels do not fit; allowed: dense")
        return pinned

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        offered = ((layer, self._offers_in(prepared, layer)) for layer in prepared.network.layers)
        return tuple(
            Site(
                PREFIX + layer.name,
                (Candidate(DENSE), *(Candidate(str(one)) for one in offers)),
                ordered=len({one.pattern for one in offers}) == 1,
            )
            for layer, offers in offered
            if offers
        )

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        return (PREFIX + layer.name,) if self._offers_in(prepared, layer) else ()

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        """Narrowed to channels that the pattern does not divide, it stays dense."""
        sparsity = chosen_sparsity(choice, layer.name)
        return replace(form, sparsity=sparsity) if sparsity and form.channels_in % sparsity.group == 0 else form

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        sites = self.sites(prepared)
        names = dict.fromkeys(c.name for site in sites for c in site.candidates[1:])
        return tuple({site.name: name for site in sites if name in {c.name for c in site.candidates}} for name in names)

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        for name, sparsity in sparse_layers(choice).items():
            weight = graph.get_parameter(f"{name}.weight")
            with torch.no_grad():
                weight.copy_(self.pruned(prepared, name, sparsity, weight))
        return graph

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        model, constants, layers = copy_of_model(model), constant_arrays(model), sparse_layers(choice)
        for name, node in weighted_nodes(model):
            if name in layers:
                weight = torch.tensor(constants[node.input[1]])
                set_weight(model, node.input[1], self.pruned(prepared, name, layers[name], weight).numpy())
        return model

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        """Pruned are the folded weights, as in the artifact; the module gets them with its batch norms unfolded."""
        module, folded = copy.deepcopy(module), fold_batch_norm(module, prepared.network.shape)
        for name, sparsity in sparse_layers(choice).items():
            weight, whole = module.get_parameter(f"{name}.weight"), folded.get_parameter(f"{name}.weight").detach()
            with torch.no_grad():
                weight.copy_(self.pruned(prepared, name, sparsity, whole) / batch_norm_gains(whole, weight))
        return module

    def pruned(self, prepared: PreparedModel, layer: str, sparsity: Sparsity, weight: Tensor) -> Tensor:
        """The folded weight (out, in, *kernel) with zeros. One that another change has touched is pruned by magnitude:
        the reconstruction was made for the original's."""
        packed = prepared.pruned.get(layer, {}).get(str(sparsity))
        if self.method == "magnitude" or packed is None or not _untouched(prepared, layer, weight):
            return prune_live_channels(weight, lambda some: prune_by_magnitude(some, sparsity))
        return packed.dense()

    def pays(self, runtime: Runtime, container: str) -> bool:
        """A container turns zeros into fewer bytes, whatever the runtime does with them."""
        return runtime.supports(self.FEATURE) or container != "plain"

    def no_gain(self) -> tuple[str, str]:
        instead = "removes whole channels, which saves both; with `target: {container: gzip}` zeros save bytes"
        return "turns zeros neither into time nor into bytes", f"`narrow` {instead}"

    def pruned_beforehand(self, layer: Layer) -> tuple[Sparsity, ...]:
        return self.offers(layer) if self.method == "obs" else ()

    def sparse_layers(self, choice: Choice) -> dict[str, Sparsity]:
        return sparse_layers(choice)

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        then, now = _zeros(before), _zeros(after)
        return "sparser" if now > then else "denser" if now < then else "other pattern of zeros"

    @classmethod
    def describe(cls, unchanged: str, picked: str) -> LayerNumbers:
        """Nothing: the zeros stand in the rows of the layers."""
        return LayerNumbers()


def batch_norm_gains(folded: Tensor, weight: Tensor) -> Tensor:
    """(out, 1, ...) What batch norm multiplies every output channel with: the folded weight over the unfolded one."""
    rows, other = folded.flatten(1), weight.detach().flatten(1)
    gain = (rows * other).sum(1) / other.square().sum(1).clamp(min=1e-20)
    gain = torch.where(gain.abs() > 1e-12, gain, torch.ones_like(gain))
    return gain.reshape(-1, *[1] * (weight.ndim - 1))


def _untouched(prepared: PreparedModel, layer: str, weight: Tensor) -> bool:
    """Whether it is the original's folded weight."""
    original = torch.tensor(layer_weight(prepared.model, layer))
    return weight.shape == original.shape and torch.allclose(weight.detach(), original, rtol=1e-4, atol=1e-6)


def _zeros(candidate: str) -> float:
    """The share of zeros that a candidate makes; 0 for what does not say."""
    try:
        return 0.0 if candidate == DENSE else Sparsity.parse(candidate).level
    except (InputError, ValueError, ZeroDivisionError):
        return 0.0


def _level(sparsity: Sparsity) -> float:
    return sparsity.level


def chosen_sparsity(choice: Choice, layer: str) -> Sparsity | None:
    """What the choice makes of a layer; None where it stays dense."""
    name = choice.get(PREFIX + layer, DENSE)
    return None if name == DENSE else Sparsity.parse(name)


def sparse_layers(choice: Choice) -> dict[str, Sparsity]:
    """The layers that the choice makes sparse."""
    named = (site.removeprefix(PREFIX) for site in choice if site.startswith(PREFIX))
    return {layer: sparsity for layer in named if (sparsity := chosen_sparsity(choice, layer)) is not None}


PLUGIN = Sparsify
