"""The plan by depth as one SVG file that needs nothing beside it: Markdown viewers show it as an image."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from paredown.pipeline.report.layer_rows import LayerRow, plan_summary
from paredown.pipeline.report.plan_drawing import WIDTH, height_of, layer_pictures, per_column
from paredown.pipeline.report.svg import svg_tag, svg_text

GAP, EDGE, LEGEND = 28.0, 16.0, 30.0
NARROWEST = 800.0
"""px that the legend needs."""

# An image in a page cannot take colours from it, so the paper is drawn too and is light everywhere.
STYLE = """
svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
text { font-size: 13px; fill: #1d2329; }
.paper { fill: #ffffff; }
.grid { stroke: #e2e0da; stroke-width: 1; }
.tick, .axis { fill: #5b6670; font-size: 10px; }
.axis { font-weight: 600; }
.note { fill: #5b6670; font-size: 11px; }
.layer-name { font: 10px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.number, .change { font-size: 10px; }
.hit { fill: transparent; }
.track, .time-before { fill: #dcdfe2; }
.kept, .time-after { fill: #6b7480; }
.int8 .kept, .int8 .time-after { fill: #1f7a8c; }
.fp32 .kept, .fp32 .time-after { fill: #e08a1e; }
.join .kept { fill: none; stroke-width: 1.5; stroke-dasharray: 3 2; }
.join .track { fill: none; }
.join.int8 .kept { stroke: #1f7a8c; }
.join.fp32 .kept { stroke: #e08a1e; }
.zeros { fill: #ffffff; opacity: .8; }
.site .change { font-weight: 600; fill: #8a6d3b; }
"""


def plan_svg(rows: Sequence[LayerRow]) -> str:
    """The rows, of which there is at least one, in up to three columns under a legend."""
    drawings, size = layer_pictures(rows), per_column(len(rows))
    width = max(2 * EDGE + len(drawings) * (WIDTH + GAP) - GAP, NARROWEST)
    height = 2 * EDGE + LEGEND + height_of(min(size, len(rows)))
    return svg_tag(
        "svg",
        svg_tag("title", "The plan, from input to output"),
        svg_tag("desc", plan_summary(rows)),
        svg_tag("style", Markup(STYLE)),
        svg_tag("rect", class_="paper", width=width, height=height),
        *_legend(any(row.zeros for row in rows)),
        *(_column(one, index, min(size, len(rows) - index * size)) for index, one in enumerate(drawings)),
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
    )


def _column(drawing: Markup, index: int, rows: int) -> Markup:
    """A drawing at its place, at the size that it was drawn for."""
    place = EDGE + index * (WIDTH + GAP)
    return svg_tag("svg", drawing, x=place, y=EDGE + LEGEND, width=WIDTH, height=height_of(rows))


def _legend(zeros: bool) -> Iterator[Markup]:
    """What the colours and forms stand for, in one line."""
    words = [("int8", "int8, kept of all channels"), ("fp32", "fp32"), ("depthwise fp32", "thin: depthwise")]
    words += [("zeros", "hollow: zeros")] if zeros else []
    x = EDGE
    for kind, label in [*words, ("join fp32", "dashed: add"), ("times", "predicted ms: original above, plan below")]:
        yield svg_tag("g", *_swatch(kind, x, EDGE), class_=kind)
        yield svg_text(label, x + 26, EDGE + 10, "note")
        x += 44 + 5.8 * len(label)


def _swatch(kind: str, x: float, y: float) -> tuple[Markup, ...]:
    def box(class_: str, width: float, top: float = 0.0, height: float = 12.0) -> Markup:
        return svg_tag("rect", x=x, y=y + top, width=width, height=height, class_=class_)

    match kind:
        case "times":
            return box("time-before", 20, height=5), box("time-after", 9, 6, 5)
        case "depthwise fp32":
            return (box("kept", 20, 4, 4),)
        case "zeros":
            return box("kept", 20), svg_tag("rect", x=x + 6, y=y + 2, width=14, height=8, class_="zeros")
        case "join fp32":
            return (box("kept", 19, 1, 10),)
    return box("track", 20), box("kept", 13)
