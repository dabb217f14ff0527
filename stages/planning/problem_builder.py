"""The search problem of a recipe: candidates, their costs in every combination that matters, and the limits."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paredown.models.network.layers import Layer
from paredown.stages.analysis.dataflow import Gates, lifetimes, readings
from paredown.stages.analysis.plan_network import owner_of_layer
from paredown.stages.limits import Limits
from paredown.stages.planning import latency_model
from paredown.stages.planning.footprint import output_bytes, stored_bytes, weight_bytes
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.products.evidence import MIB, Evidence
from paredown.stages.solvers.problem import Charge, Choice, Costs, Factor, Pick, Problem, Site, Term

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
    found = []
    if limits.latency_p50:
        found.append(("latency", limits.latency_p50.resolve(baseline.latency.p50)))
    if limits.latency_p95:
        found.append(("latency", limits.latency_p95.resolve(baseline.latency.p95) / tail))
    if limits.size:
        size = limits.size.resolve(baseline.size)
        found.append(("size", max(size - metadata, size / 2)))
    if limits.peak_memory:
        found.append(("memory", limits.peak_memory.resolve(baseline.peak_memory)))
    return {name: min(v for n, v in found if n == name) * (1 - margin) for name, _ in found}


def build_problem(
    space: PlanSpace,
    profile: CostProfile,
    losses: Mapping[str, Mapping[str, float]],
    limits: Mapping[str, float],
) -> Problem:
    """All sites with their losses, one factor per layer, a charge per value that may cross a border, and the limits.

    Of a pinned site only the pinned candidate is there. Layers that no site touches and that need no pick are part of
    the fixed costs.
    """
    sites = tuple(
        replace(site, candidates=tuple(replace(c, loss=losses[site.name][c.name]) for c in site.candidates))
        for site in space.open_sites
    )
    steps = _busy_steps(space) if "memory" in limits else []
    table = _Tables(space, profile, {site.name: site for site in sites}, steps)
    factors = tuple(table.layers())
    fixed = {"latency": latency_model.CONSTANT_MS * profile.weights[-1], "size": profile.size_offset}
    fixed |= {f"memory@{step}": profile.memory_floor for step in steps}
    everywhere = [factor.table[()] for factor in factors if not factor.sites]
    summed = {name: value + sum(costs.get(name, 0.0) for costs in everywhere) for name, value in fixed.items()}
    needed = tuple(factor for factor in factors if factor.sites)
    return Problem(sites, needed, limits, summed, tuple(table.charges()))


def _busy_steps(space: PlanSpace) -> list[int]:
    """The steps at which the peak can be; of a block's branches only the largest counts, as only one of them runs."""
    held: dict[tuple[int, Pick | None], float] = {}
    for layer in space.prepared.network.layers:
        mib, pick = output_bytes(layer, space.form_of(layer, {})) / MIB, owner_of_layer(space.prepared, layer)
        first, last = lifetimes(space.prepared)[layer.name]
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


class _Tables:
    """Costs of layers and borders for every combination of the candidates that touch them."""

    def __init__(
        self,
        space: PlanSpace,
        profile: CostProfile,
        sites: Mapping[str, Site],
        steps: Sequence[int],
    ) -> None:
        self.space, self.prepared, self.profile = space, space.prepared, profile
        self.sites, self.steps, self.lifetimes = sites, steps, lifetimes(space.prepared)

    def layers(self) -> Iterator[Factor]:
        for layer in self.prepared.network.layers:
            scope, needs = self._existing(self._scope(layer), layer)
            yield Factor(scope, {tuple(c.values()): self._layer_costs(layer, c) for c in self._choices(scope, needs)})

    def charges(self) -> Iterator[Charge]:
        """What converting a value costs where it is made in one precision and read in another."""
        for consumer, sources in readings(self.prepared):
            groups = [sources] if self._exclusive(sources) else [(source,) for source in sources]
            for group in groups:
                when = tuple(self._occasions(consumer, group))
                sites = self._deciding(consumer)
                table = {tuple(c.values()): self._border(consumer, c) for c in self._choices(sites, {})}
                if when:
                    yield Charge(when, sites, table)

    def _exclusive(self, sources: Sequence[tuple[Layer, Gates]]) -> bool:
        """Whether only one of the sources is there in any plan: behind the same gates, candidates of one block."""
        by_gates: dict[Gates, list[Pick | None]] = {}
        for producer, gates in sources:
            by_gates.setdefault(gates, []).append(owner_of_layer(self.prepared, producer))
        return all(
            len(picks) == 1
            or (None not in picks and len({p[0] for p in picks if p}) == 1 and len(set(picks)) == len(picks))
            for picks in by_gates.values()
        )

    def _occasions(self, consumer: Layer, sources: Sequence[tuple[Layer, Gates]]) -> Iterator[tuple[Term, ...]]:
        for gates in dict.fromkeys(gates for _, gates in sources):
            producers = [self._precisions(producer) for producer, behind in sources if behind == gates]
            opened = [frozenset((site, name) for name in names) for site, names in sorted(gates)]
            for bits, read in self._precisions(consumer).items():
                made = frozenset[Pick]().union(*(p for one in producers for b, p in one.items() if b != bits))
                always = any(not p for one in producers for b, p in one.items() if b != bits)
                if made or always:
                    yield tuple(term for term in (*opened, made, read) if term)

    def _precisions(self, layer: Layer) -> dict[int, Term]:
        """Bits of a layer to the picks that lead to them; where it has no choice, the one that it needs to exist."""
        scope = self._scope(layer)
        first = {site: self.sites[site].candidates[0].name for site in scope}
        plain = self.space.form_of(layer, first).bits
        for site in scope:
            found: dict[int, Term] = {}
            for candidate in self.sites[site].candidates:
                bits = self.space.form_of(layer, {site: candidate.name}).bits
                found[bits] = found.get(bits, frozenset()) | {(site, candidate.name)}
            if len(found) > 1:
                return found
        pick = owner_of_layer(self.prepared, layer)
        return {plain: frozenset({pick} if pick else ())}

    def _deciding(self, consumer: Layer) -> tuple[str, ...]:
        """The sites that change how much crosses a border; the others would only blow up its table."""
        plain = self._crossing(consumer, {})
        return tuple(
            site
            for site in self._scope(consumer)
            if any(self._crossing(consumer, {site: c.name}) != plain for c in self.sites[site].candidates)
        )

    def _crossing(self, consumer: Layer, choice: Choice) -> float:
        return latency_model.crossing(consumer, self.space.form_of(consumer, choice))

    def _border(self, consumer: Layer, choice: Choice) -> Costs:
        per_element, per_border = (
            self.profile.weights[-3] * latency_model.ELEMENT_MS,
            self.profile.weights[-2] * latency_model.BORDER_MS,
        )
        return {"latency": self._crossing(consumer, choice) * per_element + per_border}

    def _scope(self, layer: Layer) -> tuple[str, ...]:
        return tuple(site for site in self.space.sites_touching(layer) if site in self.sites)

    def _existing(self, scope: tuple[str, ...], layer: Layer) -> tuple[tuple[str, ...], dict[str, str]]:
        """The scope with the site whose pick makes the layer exist, and that pick; a site in the scope that exists with
        it only speaks for it."""
        pick = owner_of_layer(self.prepared, layer)
        if pick is None or pick in {self.sites[site].owner for site in scope}:
            return scope, {}
        return (pick[0], *scope), dict([pick])

    def _choices(self, scope: Sequence[str], needs: Mapping[str, str]) -> Iterator[Choice]:
        options = ([needs[site]] if site in needs else [c.name for c in self.sites[site].candidates] for site in scope)
        for names in itertools.product(*options):
            yield dict(zip(scope, names, strict=True))

    def _layer_costs(self, layer: Layer, choice: Choice) -> Costs:
        form = self.space.form_of(layer, choice)
        size, loaded = stored_bytes(layer, form, self.profile.shares) / MIB, weight_bytes(layer, form) / MIB
        held = output_bytes(layer, form) / MIB
        first, last = self.lifetimes[layer.name]
        memory = {s: self.profile.memory_per_size * loaded + held * (first <= s <= last) for s in self.steps}
        named = {f"memory@{step}": mib for step, mib in memory.items()}
        return {"latency": latency_model.corrected_ms(self.profile, layer, form), "size": size, **named}
