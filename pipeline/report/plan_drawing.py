"""A plan drawn along the network's depth: one row per layer, from input to output."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from paredown.pipeline.report.layer_rows import LayerRow, milliseconds, plan_summary
from paredown.pipeline.report.svg import AxisScale, Point, short_number, svg_line, svg_picture, svg_tag, svg_text

ROW, HEAD, WIDTH = 17.0, 34.0, 404.0
NAME, TIMES = 122.0, 302.0
BAR_END, NUMBER_END, TIMES_END = 230.0, 294.0, 356.0
LETTERS = 20
"""Letters of a layer's name that fit before its bar."""


def layer_pictures(rows: Sequence[LayerRow], columns: int = 3, least: int = 16) -> tuple[Markup, ...]:
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
    widths = AxisScale(0.0, float(widest), NAME + 6, BAR_END, math.sqrt)
    times = AxisScale(0.0, slowest, TIMES, TIMES_END) if slowest else None
    height = height_of(len(rows))
    marks = [_mark(row, HEAD + ROW * i, widths, times) for i, row in enumerate(rows)]
    title = f"Plan by depth, rows {start + 1} to {start + len(rows)} of {total}"
    about = f"{plan_summary(rows)} The same numbers are in the table of all layers."
    size: Point = WIDTH, height
    return svg_picture(f"depth-{index}", title, about, size, _head(widths, times, height), *marks)


def _head(widths: AxisScale, times: AxisScale | None, height: float) -> Markup:
    """The axes: channels on a square-root scale, ms on a linear one."""
    round_ones = [value for value in (16.0, 64.0, 256.0, 1024.0, 4096.0) if value <= 0.6 * widths.high]
    values = [0.0, *round_ones[-2:], widths.high]
    parts = [svg_line((widths(v), HEAD - 4), (widths(v), height - 2), "grid") for v in values]
    parts += [svg_text(short_number(v), widths(v), HEAD - 8, "tick", "middle") for v in values]
    parts += [svg_text("channels kept", NAME + 6, 11, "axis"), svg_text("kept/all", NUMBER_END, 11, "axis", "end")]
    if times:
        parts += [svg_text("predicted ms", TIMES, 11, "axis"), svg_text("0", TIMES, HEAD - 8, "tick", "middle")]
        parts.append(svg_text(short_number(float(f"{times.high:.2g}")), TIMES_END, HEAD - 8, "tick", "middle"))
    return Markup("").join(parts)


def _mark(row: LayerRow, y: float, widths: AxisScale, times: AxisScale | None) -> Markup:
    """One row: name, width bar, numbers, and the two thin bars of the predicted time."""
    name = row.name if len(row.name) <= LETTERS else f"…{row.name[1 - LETTERS :]}"
    inside = [svg_tag("title", str(row)), svg_tag("rect", x=0, y=y, width=WIDTH, height=ROW, class_="hit")]
    inside.append(svg_text(name, NAME - 2, y + 12, "layer-name", "end"))
    if row.change:
        inside.append(svg_text(row.change, NAME + 6, y + 12, "change"))
        return svg_tag("g", *inside, class_="site")
    inside.append(_bar(row, y, widths))
    if times and row.ms is not None:
        inside += _times(row, y, times)
    return svg_tag("g", *inside, class_=f"layer {row.kind} {row.precision}")


def _bar(row: LayerRow, y: float, widths: AxisScale) -> Markup:
    """The original width as a track, the kept width on it; a square where only the precision is known."""
    if row.width is None or row.kept is None:
        return svg_tag("rect", x=widths.start, y=y + 4, width=9, height=9, class_="kept")
    top, height = (y + 6.5, 4.0) if row.kind == "depthwise" else (y + 3, 11.0)
    track, kept = ((widths(value) - widths.start) for value in (row.width, row.kept))
    whole = f"{100 * row.zeros:.3g} % 0" if row.zeros else str(row.width)
    number = f"{row.kept}/{row.width}" if row.kept != row.width else whole
    full = kept * (1 - row.zeros)
    return (
        svg_tag("rect", x=widths.start, y=top, width=track, height=height, class_="track")
        + svg_tag("rect", x=widths.start, y=top, width=kept, height=height, class_="kept")
        + (
            svg_tag("rect", x=widths.start + full, y=top + 2, width=kept - full, height=7, class_="zeros")
            if row.zeros
            else ""
        )
        + svg_text(number, NUMBER_END, y + 12, "number", "end")
    )


def _times(row: LayerRow, y: float, times: AxisScale) -> list[Markup]:
    before = times(row.before or 0.0) - times.start
    after = times(row.ms or 0.0) - times.start
    return [
        svg_tag("rect", x=times.start, y=y + 3, width=max(before, 0.6), height=5, class_="time-before"),
        svg_tag("rect", x=times.start, y=y + 9, width=max(after, 0.6), height=5, class_="time-after"),
        svg_text(milliseconds(row.ms), WIDTH, y + 12, "number", "end"),
    ]
