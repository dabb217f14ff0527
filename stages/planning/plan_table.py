"""A plan as tables: what it makes of every layer and of every block, for the stages after the search and for people."""

from collections.abc import Mapping
from dataclasses import replace

from paredown.models.compression.supernet import KEEP, Branch
from paredown.models.network.layers import Layer
from paredown.stages.analysis.plan_network import owner_of_layer, picks_of, site_of
from paredown.stages.analysis.prepared_model import LayerForm
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.products.plan import BlockCandidate, PlannedBlock, PlannedLayer
from paredown.stages.solvers.problem import Choice


def planned_layers(space: PlanSpace, profile: CostProfile, choice: Choice) -> tuple[PlannedLayer, ...]:
    """What the plan makes of every layer, in order of depth; ms are predicted, in the plan and in the network that has
    its blocks and is else unchanged."""
    blocks = {site_of(block): name for block, name in picks_of(choice).items()}
    before, ms = space.layer_ms(profile, blocks), space.layer_ms(profile, choice)
    return tuple(
        replace(_planned(layer, plain, form), baseline_ms=before[layer.name], ms=ms[layer.name])
        for layer, plain, form in _forms(space, choice)
    )


def planned_layers_untimed(space: PlanSpace, choice: Choice) -> tuple[PlannedLayer, ...]:
    """The same without times, which need no profile."""
    return tuple(_planned(*one) for one in _forms(space, choice))


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


def _forms(space: PlanSpace, choice: Choice) -> list[tuple[Layer, LayerForm, LayerForm]]:
    """Every layer that the plan leaves, as it was, and as the plan has it."""
    left = space.network_of(choice).network.layers
    return [(layer, space.form_of(layer, {}), space.form_of(layer, choice)) for layer in left]


def planned_blocks(
    space: PlanSpace, profile: CostProfile, losses: Mapping[str, Mapping[str, float]], choice: Choice
) -> tuple[PlannedBlock, ...]:
    """What became of every block that could be replaced, and what each of its candidates would have cost alone; the
    block itself comes first."""
    picked = picks_of(choice)
    return tuple(
        PlannedBlock(
            name=branch.block,
            picked=picked.get(branch.block, KEEP),
            candidates=tuple(
                BlockCandidate(name, losses[site_of(branch.block)][name], _branch_ms(space, profile, branch, name))
                for name in branch.values
            ),
        )
        for branch in space.prepared.branches
    )


def _branch_ms(space: PlanSpace, profile: CostProfile, branch: Branch, name: str) -> dict[str, float]:
    """Predicted ms of a candidate's layers at their whole width, by the bits that all of them can have."""
    prepared, pick = space.prepared, (site_of(branch.block), name)
    own = [layer for layer in prepared.network.layers if owner_of_layer(prepared, layer) == pick]
    plain = {layer: space.form_of(layer, {}) for layer in own}
    model, kernels = space.latency_model(profile), {32: "fp32", 8: "int8"}
    every = [b for b, k in kernels.items() if all(model.knows(layer, k) for layer in prepared.network.layers)]
    return {
        str(bits): space.latency_scale(profile)
        * sum(model.layer(layer, replace(form, bits=bits)).ms for layer, form in plain.items())
        for bits in every
    }
