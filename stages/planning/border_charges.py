"""What a plan pays where a value is made in one precision and read in another: a charge per reading layer and value.

Int8 and fp32 layers cannot read each other's values; the runtime converts between them, which takes time per element
and once per border. Whether it must depends on the picks of both sides, and on the blocks between them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from paredown.models.network.layers import Layer
from paredown.stages.analysis.dataflow import PassConditions, layer_readings
from paredown.stages.analysis.plan_network import owner_of_layer
from paredown.stages.planning import latency_model
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import combinations
from paredown.stages.products.cost_profile import CostProfile
from paredown.stages.solvers.problem import BorderCharge, Choice, Costs, Pick, Site, Term

Source = tuple[Layer, PassConditions]
"""A layer that may have made a value, and the blocks that must let it through to the reader."""


class BorderCharges:
    """The charges over the sites that are searched (by name), with the costs that a profile predicts."""

    def __init__(self, space: PlanSpace, profile: CostProfile, sites: Mapping[str, Site], caution: float) -> None:
        self.space, self.profile, self.sites, self.caution = space, profile, sites, caution

    def charges(self) -> Iterator[BorderCharge]:
        """One charge per layer, value that it reads and precision that it reads it in, or one per source where several
        can be there at once."""
        for reader, sources in layer_readings(self.space.prepared):
            sites = self._deciding(reader)
            groups = [sources] if self._exclusive(sources) else [(source,) for source in sources]
            for group, (bits, read) in itertools.product(groups, self._precisions(reader).items()):
                if when := tuple(self._occasions(bits, read, group)):
                    choices = combinations(self.sites, sites, {})
                    yield BorderCharge(when, sites, {tuple(c.values()): self._cost(reader, bits, c) for c in choices})

    def _exclusive(self, sources: Sequence[Source]) -> bool:
        """Whether only one of the sources is there in any plan."""
        behind: dict[PassConditions, list[Pick | None]] = {}
        for producer, gates in sources:
            behind.setdefault(gates, []).append(owner_of_layer(self.space.prepared, producer))
        return all(len(picks) == 1 or _of_one_block(picks) for picks in behind.values())

    def _occasions(self, bits: int, read: Term, sources: Sequence[Source]) -> Iterator[tuple[Term, ...]]:
        """What must come true for a conversion to `bits`: open gates, a source in another precision, the reader in this
        one, which the picks in `read` lead to."""
        for gates in dict.fromkeys(gates for _, gates in sources):
            opened = [frozenset((site, name) for name in names) for site, names in sorted(gates)]
            producers = [self._precisions(producer) for producer, behind in sources if behind == gates]
            other = [picks for precisions in producers for made, picks in precisions.items() if made != bits]
            if other:  # A layer without picks is there in every plan: such an empty term is left out.
                terms = (*opened, frozenset[Pick]().union(*other), read)
                yield tuple(term for term in terms if term)

    def _precisions(self, layer: Layer) -> dict[int, Term]:
        """Bits of a layer to the picks that lead to them; where it has no choice, the one that it needs to exist."""
        touching = [site for site in self.space.sites_touching(layer) if site in self.sites]
        for site in touching:
            picks: dict[int, Term] = {}
            for candidate in self.sites[site].candidates:
                bits = self.space.form_of(layer, {site: candidate.name}).bits
                picks[bits] = picks.get(bits, frozenset()) | {(site, candidate.name)}
            if len(picks) > 1:
                return picks
        first = {site: self.sites[site].candidates[0].name for site in touching}
        owner = owner_of_layer(self.space.prepared, layer)
        return {self.space.form_of(layer, first).bits: frozenset({owner} if owner else ())}

    def _deciding(self, reader: Layer) -> tuple[str, ...]:
        """The sites that change how much crosses a border; the others would only blow up its table."""
        unchanged = self._elements(reader, {})
        return tuple(
            site
            for site in self.space.sites_touching(reader)
            if site in self.sites
            and any(self._elements(reader, {site: c.name}) != unchanged for c in self.sites[site].candidates)
        )

    def _elements(self, reader: Layer, choice: Choice) -> float:
        """Millions of elements that are converted."""
        return latency_model.crossing_elements(reader, self.space.form_of(reader, choice))

    def _cost(self, reader: Layer, bits: int, choice: Choice) -> Costs:
        """What a conversion to `bits` takes the layer that reads."""
        form = replace(self.space.form_of(reader, choice), bits=bits)
        ms = self.space.latency_model(self.profile).conversion(reader, form).careful(self.caution)
        return {"latency": ms * self.space.latency_scale(self.profile)}


def _of_one_block(owners: Sequence[Pick | None]) -> bool:
    """Whether the owners are different candidates of one block, of which a plan picks only one."""
    picks = [pick for pick in owners if pick is not None]
    return len(picks) == len(owners) == len(set(picks)) and len({block for block, _ in picks}) == 1
