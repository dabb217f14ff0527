"""The search problem of a recipe: candidates, their costs in every combination that matters, and the limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paredown.models.network.layers import Layer
from paredown.stages.analysis.dataflow import value_lifetimes
from paredown.stages.analysis.plan_network import owner_of_layer
from paredown.stages.limits import Limits
from paredown.stages.planning.border_charges import BorderCharges
from paredown.stages.planning.footprint import output_bytes, stored_bytes, weight_bytes
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import combinations
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.products.evidence import MIB, Evidence
from paredown.stages.solvers.problem import Choice, CostFactor, Pick, Problem, Site

CAUTION = 1.0
"""Of the deviation of each predicted time, what a search adds to it."""
BUSY = 1 / 16
"""Schedule steps whose live activations stay under this share of the peak never become the peak: a quarter of the
channels in a quarter of the bytes is the most that the other steps can lose."""


def search_limits(limits: Limits, baseline: Evidence, margin: float, metadata: float = 0.0) -> dict[str, float]:
    """The limits as budgets of the search: `latency` ms, `size` MiB, `memory` MiB, each tightened by `margin`.

    A p95 limit is held through p50, by the baseline's own p95 / p50. `metadata` MiB of the size are left for what the
    finished artifact says of itself, but never more than half of it.
    """
    assert baseline.latency is not None
    tail = baseline.latency.p95 / baseline.latency.p50
    bounds: dict[str, list[float]] = {}
    if limits.latency_p50:
        bounds.setdefault("latency", []).append(limits.latency_p50.resolve(baseline.latency.p50))
    if limits.latency_p95:
        bounds.setdefault("latency", []).append(limits.latency_p95.resolve(baseline.latency.p95) / tail)
    if limits.size:
        size = limits.size.resolve(baseline.size)
        bounds["size"] = [max(size - metadata, size / 2)]
    if limits.peak_memory:
        bounds["memory"] = [limits.peak_memory.resolve(baseline.peak_memory)]
    return {name: min(values) * (1 - margin) for name, values in bounds.items()}


def build_problem(
    space: PlanSpace,
    profile: CostProfile,
    losses: Mapping[str, Mapping[str, float]],
    limits: Mapping[str, float],
    caution: float = 0.0,
) -> Problem:
    """All sites with their losses, one factor per layer, a charge per value that may cross a border, and the limits.

    `caution` deviations are added to every predicted time, so that a plan is not picked where least is known of it. Of
    a pinned site only the pinned candidate is there. Layers that no site touches and that need no pick are part of the
    fixed costs.
    """
    sites = tuple(
        replace(site, candidates=tuple(replace(c, loss=losses[site.name][c.name]) for c in site.candidates))
        for site in space.open_sites
    )
    steps = _busy_steps(space) if "memory" in limits else []
    by_name = {site.name: site for site in sites}
    factors = tuple(_layer_factors(space, profile, by_name, steps, caution))
    always = space.latency_model(profile).fixed * space.latency_scale(profile)
    fixed = {"latency": always, "size": profile.size_offset}
    fixed |= {f"memory@{step}": profile.memory_floor for step in steps}
    unchanging = [factor.table[()] for factor in factors if not factor.sites]
    summed = {name: value + sum(costs.get(name, 0.0) for costs in unchanging) for name, value in fixed.items()}
    needed = tuple(factor for factor in factors if factor.sites)
    return Problem(sites, needed, limits, summed, tuple(BorderCharges(space, profile, by_name, caution).charges()))


def _busy_steps(space: PlanSpace) -> list[int]:
    """The steps at which the peak can be; of a block's branches only the largest counts, as only one of them runs."""
    held: dict[tuple[int, Pick | None], float] = {}
    for layer in space.prepared.network.layers:
        mib, pick = output_bytes(layer, space.form_of(layer, {})) / MIB, owner_of_layer(space.prepared, layer)
        first, last = value_lifetimes(space.prepared)[layer.name]
        for step in range(first, last + 1):
            held[step, pick] = held.get((step, pick), 0.0) + mib
    largest: dict[tuple[int, str], float] = {}
    for (step, pick), mib in held.items():
        block = pick[0] if pick else ""
        largest[step, block] = max(largest.get((step, block), 0.0), mib)
    live: dict[int, float] = {}
    for (step, _), mib in largest.items():
        live[step] = live.get(step, 0.0) + mib
    return [step for step, mib in live.items() if mib >= BUSY * max(live.values())]


def _layer_factors(
    space: PlanSpace, profile: CostProfile, sites: Mapping[str, Site], steps: Sequence[int], caution: float
) -> Iterator[CostFactor]:
    """Per layer the costs of every combination of the candidates that change it."""
    for layer in space.prepared.network.layers:
        names, fixed = _deciding(space, layer, sites)
        choices = combinations(sites, names, fixed)
        table = {tuple(c.values()): _layer_costs(space, profile, layer, c, steps, caution) for c in choices}
        yield CostFactor(names, table)


def _deciding(space: PlanSpace, layer: Layer, sites: Mapping[str, Site]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The sites that change a layer, with the site whose pick makes it exist, and that pick; where a site that changes
    it exists only with that pick, it says so itself."""
    names = tuple(site for site in space.sites_touching(layer) if site in sites)
    owner = owner_of_layer(space.prepared, layer)
    if owner is None or owner in {sites[name].owner for name in names}:
        return names, {}
    return (owner[0], *names), dict([owner])


def _layer_costs(
    space: PlanSpace, profile: CostProfile, layer: Layer, choice: Choice, steps: Sequence[int], caution: float
) -> dict[str, float]:
    """`latency` ms, `size` MiB in the file, and `memory@step` MiB: what is loaded, and at the steps at which the
    layer's output is alive also that."""
    form = space.form_of(layer, choice)
    size, loaded = stored_bytes(layer, form, profile.shares) / MIB, weight_bytes(layer, form) / MIB
    output = output_bytes(layer, form) / MIB
    first, last = value_lifetimes(space.prepared)[layer.name]
    memory = {f"memory@{s}": profile.memory_per_size * loaded + output * (first <= s <= last) for s in steps}
    latency = space.latency_model(profile).layer(layer, form).careful(caution) * space.latency_scale(profile)
    return {"latency": latency, "size": size, **memory}
