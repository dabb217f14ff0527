"""A plan told layer by layer and block by block, for the stages after the search and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from paredown.models.compression.supernet import KEEP, Branch
from paredown.models.network.trace import Layer
from paredown.stages.analysis.plan_network import network_of_plan, owner_of_layer, picks_of, site_of
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.planning import footprint, latency_model
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.products.plan import BlockCandidate, PlannedBlock, PlannedLayer
from paredown.stages.transforms.base import Transform


def layers(meter: PlanMeter, profile: CostProfile, choice: Mapping[str, str]) -> tuple[PlannedLayer, ...]:
    """What the plan makes of every layer, in order of depth; ms are predicted, in context."""
    ms = partial(latency_model.corrected_ms, profile)
    return tuple(
        replace(_planned(layer, plain, form), baseline_ms=ms(layer, plain), ms=ms(layer, form))
        for layer, plain, form in _forms(meter.prepared, meter.transforms, choice)
    )


def layers_untimed(
    prepared: PreparedModel, transforms: Sequence[Transform], choice: Mapping[str, str]
) -> tuple[PlannedLayer, ...]:
    """The same without times, which need no profile."""
    return tuple(_planned(*one) for one in _forms(prepared, transforms, choice))


def _planned(layer: Layer, plain: LayerForm, form: LayerForm) -> PlannedLayer:
    """The layer as it was (`plain`) and as the plan has it (`form`), without times."""
    return PlannedLayer(
        name=layer.name,
        op=layer.op,
        module=layer.module,
        depthwise=layer.depthwise,
        channels_in=plain.channels_in,
        channels_out=plain.channels_out,
        kept_in=form.channels_in,
        kept_out=form.channels_out,
        bits=form.bits,
        sparsity=form.sparsity.level if form.sparsity else 0.0,
        pattern=form.sparsity.pattern if form.sparsity else "",
    )


def _forms(
    prepared: PreparedModel, transforms: Sequence[Transform], choice: Mapping[str, str]
) -> list[tuple[Layer, LayerForm, LayerForm]]:
    """Every layer that the plan leaves, as it was, and as the plan has it."""
    form = partial(footprint.form_of, prepared, transforms)
    return [(layer, form(layer, {}), form(layer, choice)) for layer in network_of_plan(prepared, choice).network.layers]


def blocks(
    meter: PlanMeter, profile: CostProfile, losses: Mapping[str, Mapping[str, float]], choice: Mapping[str, str]
) -> tuple[PlannedBlock, ...]:
    """What became of every block that could be replaced, and what each of its candidates would have cost alone; the
    block itself comes first."""
    picked = picks_of(choice)
    return tuple(
        PlannedBlock(
            name=branch.block,
            picked=picked.get(branch.block, KEEP),
            candidates=tuple(
                BlockCandidate(name, losses[site_of(branch.block)][name], _branch_ms(meter, profile, branch, name))
                for name in branch.values
            ),
        )
        for branch in meter.prepared.branches
    )


def _branch_ms(meter: PlanMeter, profile: CostProfile, branch: Branch, name: str) -> dict[str, float]:
    """Predicted ms of a candidate's layers at their whole width, by the bits that all of them can have."""
    prepared, pick = meter.prepared, (site_of(branch.block), name)
    own = [layer for layer in prepared.network.layers if owner_of_layer(prepared, layer) == pick]
    plain = {layer: footprint.form_of(prepared, meter.transforms, layer, {}) for layer in own}
    kernels = {32: "fp32", 8: "int8"}
    every = [b for b, k in kernels.items() if all(k in profile.layers[layer.name] for layer in prepared.network.layers)]
    return {
        str(bits): sum(
            latency_model.corrected_ms(profile, layer, replace(form, bits=bits)) for layer, form in plain.items()
        )
        for bits in every
    }
