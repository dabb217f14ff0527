"""A plan as rows along the network's depth: one per layer, and one per site that changes more than a layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.solvers.problem import transform_and_place
from paredown.stages.transforms.base import LayerNumbers
from paredown.stages.transforms.loading import transform_of

KINDS = {"conv": "convolution", "depthwise": "depthwise convolution", "linear": "linear layer", "join": "join (add)"}


@dataclass(frozen=True)
class LayerRow:
    """A layer under the plan, or a site of another transform (`change` says what is done there).

    Widths are output channels, `zeros` a share of the weights, ms are predicted; None is what the plan does not say.
    """

    name: str
    kind: str = ""
    width: int | None = None
    kept: int | None = None
    bits: int | None = None
    before: float | None = None
    ms: float | None = None
    change: str = ""
    zeros: float = 0.0
    pattern: str = ""

    @property
    def sparsity(self) -> str:
        return f"{100 * self.zeros:.3g} % zeros ({self.pattern})" if self.zeros else ""

    @property
    def precision(self) -> str:
        return {8: "int8", 32: "fp32"}.get(self.bits or 0, "" if self.bits is None else f"{self.bits} bits")

    def __str__(self) -> str:
        if self.change:
            return f"{self.name}: {self.change}"
        channels = "" if self.width is None else f"{self.kept} of {self.width} channels"
        times = "" if self.ms is None else f"predicted {milliseconds(self.before)} → {milliseconds(self.ms)} ms"
        facts = (KINDS.get(self.kind, ""), channels, self.precision, self.sparsity, times)
        return f"{self.name}: " + ", ".join(filter(None, facts))


def layer_rows(plan: Plan, order: Sequence[str] = ()) -> tuple[LayerRow, ...]:
    """The plan's layers in order of depth, sites of other transforms before the first layer that they change.

    A plan without `layers` gives a row for every place that a site names whose transform describes layers, in `order`.
    """
    rows = [_row(layer) for layer in plan.layers] or _from_sites(plan)
    if not plan.layers:
        place_of = {name: index for index, name in enumerate(order)}
        rows.sort(key=lambda row: place_of.get(row.name, len(order)))
    for row in _changes(plan):
        place = transform_and_place(row.name)[1]
        inside = [i for i, r in enumerate(rows) if r.name == place or r.name.startswith(f"{place}.")]
        rows.insert(inside[0] if inside else 0 if place == "input" else len(rows), row)
    return tuple(rows)


def _row(layer: PlannedLayer) -> LayerRow:
    return LayerRow(
        name=layer.name,
        kind="join" if layer.op == "add" else "depthwise" if layer.depthwise else layer.op,
        width=layer.channels_out,
        kept=layer.kept_out,
        bits=layer.bits,
        before=layer.baseline_ms,
        ms=layer.ms,
        zeros=layer.sparsity,
        pattern=layer.pattern,
    )


def _from_sites(plan: Plan) -> list[LayerRow]:
    rows: dict[str, LayerRow] = {}
    for site in plan.sites:
        place, unchanged = transform_and_place(site.name)[1], site.candidates[0]
        described = transform_of(site.name).describe(unchanged, plan.choice.get(site.name, unchanged))
        numbers = {name: number for name, number in vars(described or LayerNumbers()).items() if number is not None}
        if numbers:
            rows[place] = replace(rows.get(place, LayerRow(place)), **numbers)
    return list(rows.values())


def _changes(plan: Plan) -> list[LayerRow]:
    """Sites of transforms whose changes the rows of layers do not show."""
    first = {site.name: site.candidates[0] for site in plan.sites}
    return [
        LayerRow(name, change="unchanged" if picked == first.get(name) else picked)
        for name, picked in plan.choice.items()
        if transform_of(name).describe(first.get(name, picked), picked) is None
    ]


def plan_summary(rows: Sequence[LayerRow]) -> str:
    """The plan in one sentence."""
    layers = [row for row in rows if not row.change]
    narrowed = sum(row.width is not None and row.kept != row.width for row in layers)
    int8 = sum(row.bits == 8 for row in layers)
    changed = sum(bool(row.change) and row.change != "unchanged" for row in rows)
    sparse = sum(row.zeros > 0 for row in layers)
    sentence = f"Of {len(layers)} layers, {narrowed} are narrower than in the original and {int8} compute in int8"
    sentence += f"; {sparse} {'has' if sparse == 1 else 'have'} zeros in their weights" if sparse else ""
    other = f"; {changed} other change{'' if changed == 1 else 's'}" if changed else ""
    unknown = " Widths are known only where a site sets them." if any(row.width is None for row in layers) else ""
    return f"{sentence}{other}.{unknown}"


def milliseconds(value: float | None) -> str:
    """Three decimals: microseconds are as fine as the runtime's own profile gets."""
    return "-" if value is None else f"{value:.3f}"
