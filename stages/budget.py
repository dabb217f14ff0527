"""The search problem of a recipe: candidates, their costs in every combination that matters, and the limits."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paredown.models.graph import Layer
from paredown.stages import cost
from paredown.stages.base import Limits
from paredown.stages.cost import MIB, Profile
from paredown.stages.evidence import Evidence
from paredown.stages.problem import Costs, Factor, Pick, Problem, Site
from paredown.stages.structure import borders, lifetimes, owner, sites_of
from paredown.stages.transforms.base import Choice, Subject, Transform

BUSY = 1 / 16
"""Schedule steps whose live activations stay under this share of the peak never become the peak: a quarter of the
channels in a quarter of the bytes is the most that the other steps can lose."""


def budgets(limits: Limits, baseline: Evidence, margin: float) -> dict[str, float]:
    """The limits as budgets of the search: `latency` ms, `size` MiB, `memory` MiB, each tightened by `margin`.

    A p95 limit is held through p50, by the baseline's own p95 / p50.
    """
    assert baseline.latency is not None
    tail = baseline.latency.p95 / baseline.latency.p50
    found = []
    if limits.latency_p50:
        found.append(("latency", limits.latency_p50.resolve(baseline.latency.p50)))
    if limits.latency_p95:
        found.append(("latency", limits.latency_p95.resolve(baseline.latency.p95) / tail))
    if limits.size:
        found.append(("size", limits.size.resolve(baseline.size)))
    if limits.peak_memory:
        found.append(("memory", limits.peak_memory.resolve(baseline.peak_memory)))
    return {name: min(v for n, v in found if n == name) * (1 - margin) for name, _ in found}


def build(
    subject: Subject,
    transforms: Sequence[Transform],
    profile: Profile,
    losses: Mapping[str, Mapping[str, float]],
    limits: Mapping[str, float],
) -> Problem:
    """All sites with their losses, one factor per layer and per border, and the limits.

    Layers that no site touches and that need no pick are part of the fixed costs.
    """
    sites = tuple(
        replace(site, candidates=tuple(replace(c, loss=losses[site.name][c.name]) for c in site.candidates))
        for site in sites_of(subject, transforms)
    )
    steps = _busy_steps(subject, transforms) if "memory" in limits else []
    table = _Tables(subject, transforms, profile, {site.name: site for site in sites}, steps)
    factors = (*table.layers(), *table.borders())
    fixed = {"latency": cost.CONSTANT_MS * profile.weights[-1], "size": profile.size_offset}
    floor = profile.memory_floor + profile.memory_per_size * profile.size_offset
    fixed |= {f"memory@{step}": floor for step in steps}
    everywhere = [factor.table[()] for factor in factors if not factor.sites]
    summed = {name: value + sum(costs.get(name, 0.0) for costs in everywhere) for name, value in fixed.items()}
    return Problem(sites, tuple(factor for factor in factors if factor.sites), limits, summed)


def _busy_steps(subject: Subject, transforms: Sequence[Transform]) -> list[int]:
    """The steps at which the peak can be; of a block's branches only the largest counts, as only one of them runs."""
    held: dict[tuple[int, Pick | None], float] = {}
    for layer in subject.network.layers:
        mib = cost.output_bytes(layer, cost.form_of(subject, transforms, layer, {})) / MIB
        first, last = lifetimes(subject)[layer.name]
        for step in range(first, last + 1):
            held[step, owner(subject, layer)] = held.get((step, owner(subject, layer)), 0.0) + mib
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
        subject: Subject,
        transforms: Sequence[Transform],
        profile: Profile,
        sites: Mapping[str, Site],
        steps: Sequence[int],
    ) -> None:
        self.subject, self.transforms, self.profile = subject, transforms, profile
        self.sites, self.steps, self.lifetimes = sites, steps, lifetimes(subject)

    def layers(self) -> Iterator[Factor]:
        for layer in self.subject.network.layers:
            scope, needs = self._existing(self._scope(layer), [layer])
            yield Factor(scope, {tuple(c.values()): self._layer_costs(layer, c) for c in self._choices(scope, needs)})

    def borders(self) -> Iterator[Factor]:
        for producer, consumer, between in borders(self.subject):
            scope = self._deciding(producer, consumer)
            scope, needs = self._existing(scope, [producer, consumer], between)
            choices = self._choices(scope, needs)
            table = {tuple(c.values()): self._border_costs(producer, consumer, c) for c in choices}
            table = {names: costs for names, costs in table.items() if costs["latency"]}
            if table:
                yield Factor(scope, table)

    def _scope(self, layer: Layer) -> tuple[str, ...]:
        found = (site for transform in self.transforms for site in transform.touching(self.subject, layer))
        return tuple(dict.fromkeys(site for site in found if site in self.sites))

    def _existing(
        self, scope: tuple[str, ...], layers: Sequence[Layer], between: frozenset[Pick] = frozenset()
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The scope with the sites whose picks make the layers exist, and those picks; a site in the scope that exists
        with a pick only speaks for it."""
        needs = {pick for pick in (*(owner(self.subject, layer) for layer in layers), *between) if pick is not None}
        spoken = {self.sites[site].owner for site in scope}
        missing = dict(sorted(needs - spoken))
        return (*missing, *scope), missing

    def _choices(self, scope: Sequence[str], needs: Mapping[str, str]) -> Iterator[Choice]:
        options = ([needs[site]] if site in needs else [c.name for c in self.sites[site].candidates] for site in scope)
        for names in itertools.product(*options):
            yield dict(zip(scope, names, strict=True))

    def _layer_costs(self, layer: Layer, choice: Choice) -> Costs:
        form = cost.form_of(self.subject, self.transforms, layer, choice)
        size, held = cost.weight_bytes(layer, form) / MIB, cost.output_bytes(layer, form) / MIB
        first, last = self.lifetimes[layer.name]
        memory = {s: self.profile.memory_per_size * size + held * (first <= s <= last) for s in self.steps}
        named = {f"memory@{step}": mib for step, mib in memory.items()}
        return {"latency": cost.corrected_ms(self.profile, layer, form), "size": size, **named}

    def _deciding(self, producer: Layer, consumer: Layer) -> tuple[str, ...]:
        """The sites that change what crosses a border; the others would only blow up its table."""
        scope = dict.fromkeys((*self._scope(producer), *self._scope(consumer)))
        plain = self._crossing(producer, consumer, {})
        return tuple(
            site
            for site in scope
            if any(self._crossing(producer, consumer, {site: c.name}) != plain for c in self.sites[site].candidates)
        )

    def _crossing(self, producer: Layer, consumer: Layer, choice: Choice) -> tuple[int, int, int, int]:
        forms = [cost.form_of(self.subject, self.transforms, layer, choice) for layer in (producer, consumer)]
        return forms[0].bits, forms[1].bits, forms[1].channels_in, cost.pixels(consumer, forms[1])[0]

    def _border_costs(self, producer: Layer, consumer: Layer, choice: Choice) -> Costs:
        forms = [cost.form_of(self.subject, self.transforms, layer, choice) for layer in (producer, consumer)]
        elements, count = cost.border_terms(consumer, forms[0], forms[1])
        per_element, per_border = (
            self.profile.weights[-3] * cost.ELEMENT_MS,
            self.profile.weights[-2] * cost.BORDER_MS,
        )
        return {"latency": elements * per_element + count * per_border}
