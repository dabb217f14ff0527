"""A plan drawn along the network's depth: one row per layer, from input to output."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from paredown.pipeline.report.svg import Point, Scale, line, picture, short, tag, text
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.solvers.problem import transform_and_place
from paredown.stages.transforms.base import LayerNumbers
from paredown.stages.transforms.loading import transform_of

KINDS = {"conv": "convolution", "depthwise": "depthwise convolution", "linear": "linear layer", "join": "join (add)"}

ROW, HEAD, WIDTH = 17.0, 34.0, 404.0
NAME, TIMES = 122.0, 302.0
BAR_END, NUMBER_END, TIMES_END = 230.0, 294.0, 356.0
LETTERS = 20
"""Letters of a layer's name that fit before its bar."""


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
        times = "" if self.ms is None else f"predicted {_ms(self.before)} → {_ms(self.ms)} ms"
        said = (KINDS.get(self.kind, ""), channels, self.precision, self.sparsity, times)
        return f"{self.name}: " + ", ".join(filter(None, said))


def rows_of(plan: Plan, order: Sequence[str] = ()) -> tuple[LayerRow, ...]:
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
        known = {name: number for name, number in vars(described or LayerNumbers()).items() if number is not None}
        if known:
            rows[place] = replace(rows.get(place, LayerRow(place)), **known)
    return list(rows.values())


def _changes(plan: Plan) -> list[LayerRow]:
    """Sites of transforms whose changes the rows of layers do not show."""
    first = {site.name: site.candidates[0] for site in plan.sites}
    return [
        LayerRow(name, change="unchanged" if picked == first.get(name) else picked)
        for name, picked in plan.choice.items()
        if transform_of(name).describe(first.get(name, picked), picked) is None
    ]


def summary(rows: Sequence[LayerRow]) -> str:
    """The plan in one sentence."""
    layers = [row for row in rows if not row.change]
    narrowed = sum(row.width is not None and row.kept != row.width for row in layers)
    int8 = sum(row.bits == 8 for row in layers)
    changed = sum(bool(row.change) and row.change != "unchanged" for row in rows)
    sparse = sum(row.zeros > 0 for row in layers)
    said = f"Of {len(layers)} layers, {narrowed} are narrower than in the original and {int8} compute in int8"
    said += f"; {sparse} {'has' if sparse == 1 else 'have'} zeros in their weights" if sparse else ""
    other = f"; {changed} other change{'' if changed == 1 else 's'}" if changed else ""
    unknown = " Widths are told only where a site sets them." if any(row.width is None for row in layers) else ""
    return f"{said}{other}.{unknown}"


def pictures(rows: Sequence[LayerRow], columns: int = 3, least: int = 16) -> tuple[Markup, ...]:
    """The rows as up to `columns` drawings of equal length, to be set side by side or one under the other."""
    size = per_column(len(rows), columns, least)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    widest = max((row.width or 1 for row in rows), default=1)
    slowest = max((value for row in rows for value in (row.before, row.ms) if value), default=0.0)
    return tuple(_drawing(i, part, len(rows), i * size, widest, slowest) for i, part in enumerate(parts))


def per_column(count: int, columns: int = 3, least: int = 16) -> int:
    """Rows in every drawing but the last, which may have fewer."""
    return max(least, math.ceil(count / columns))


def height_of(rows: int) -> float:
    """px of a drawing, whose width is `WIDTH`."""
    return HEAD + ROW * rows + 4


def _drawing(index: int, rows: Sequence[LayerRow], total: int, start: int, widest: int, slowest: float) -> Markup:
    widths = Scale(0.0, float(widest), NAME + 6, BAR_END, math.sqrt)
    times = Scale(0.0, slowest, TIMES, TIMES_END) if slowest else None
    height = height_of(len(rows))
    marks = [_mark(row, HEAD + ROW * i, widths, times) for i, row in enumerate(rows)]
    title = f"Plan by depth, rows {start + 1} to {start + len(rows)} of {total}"
    about = f"{summary(rows)} The same numbers are in the table of all layers."
    size: Point = WIDTH, height
    return picture(f"depth-{index}", title, about, size, _head(widths, times, height), *marks)


def _head(widths: Scale, times: Scale | None, height: float) -> Markup:
    """The axes: channels on a square-root scale, ms on a linear one."""
    round_ones = [value for value in (16.0, 64.0, 256.0, 1024.0, 4096.0) if value <= 0.6 * widths.high]
    values = [0.0, *round_ones[-2:], widths.high]
    parts = [line((widths(v), HEAD - 4), (widths(v), height - 2), "grid") for v in values]
    parts += [text(short(v), widths(v), HEAD - 8, "tick", "middle") for v in values]
    parts += [text("channels kept", NAME + 6, 11, "axis"), text("kept/all", NUMBER_END, 11, "axis", "end")]
    if times:
        parts += [text("predicted ms", TIMES, 11, "axis"), text("0", TIMES, HEAD - 8, "tick", "middle")]
        parts.append(text(short(float(f"{times.high:.2g}")), TIMES_END, HEAD - 8, "tick", "middle"))
    return Markup("").join(parts)


def _mark(row: LayerRow, y: float, widths: Scale, times: Scale | None) -> Markup:
    """One row: name, width bar, numbers, and the two thin bars of the predicted time."""
    name = row.name if len(row.name) <= LETTERS else f"…{row.name[1 - LETTERS :]}"
    inside = [tag("title", str(row)), tag("rect", x=0, y=y, width=WIDTH, height=ROW, class_="hit")]
    inside.append(text(name, NAME - 2, y + 12, "layer-name", "end"))
    if row.change:
        inside.append(text(row.change, NAME + 6, y + 12, "change"))
        return tag("g", *inside, class_="site")
    inside.append(_bar(row, y, widths))
    if times and row.ms is not None:
        inside += _times(row, y, times)
    return tag("g", *inside, class_=f"layer {row.kind} {row.precision}")


def _bar(row: LayerRow, y: float, widths: Scale) -> Markup:
    """The original width as a track, the kept width on it; a square where only the precision is known."""
    if row.width is None or row.kept is None:
        return tag("rect", x=widths.start, y=y + 4, width=9, height=9, class_="kept")
    top, height = (y + 6.5, 4.0) if row.kind == "depthwise" else (y + 3, 11.0)
    track, kept = ((widths(value) - widths.start) for value in (row.width, row.kept))
    whole = f"{100 * row.zeros:.3g} % 0" if row.zeros else str(row.width)
    number = f"{row.kept}/{row.width}" if row.kept != row.width else whole
    full = kept * (1 - row.zeros)
    return (
        tag("rect", x=widths.start, y=top, width=track, height=height, class_="track")
        + tag("rect", x=widths.start, y=top, width=kept, height=height, class_="kept")
        + (
            tag("rect", x=widths.start + full, y=top + 2, width=kept - full, height=7, class_="zeros")
            if row.zeros
            else ""
        )
        + text(number, NUMBER_END, y + 12, "number", "end")
    )


def _times(row: LayerRow, y: float, times: Scale) -> list[Markup]:
    before = times(row.before or 0.0) - times.start
    after = times(row.ms or 0.0) - times.start
    return [
        tag("rect", x=times.start, y=y + 3, width=max(before, 0.6), height=5, class_="time-before"),
        tag("rect", x=times.start, y=y + 9, width=max(after, 0.6), height=5, class_="time-after"),
        text(_ms(row.ms), WIDTH, y + 12, "number", "end"),
    ]


def _ms(value: float | None) -> str:
    """Three decimals: microseconds are as fine as the runtime's own profile gets."""
    return "-" if value is None else f"{value:.3f}"
