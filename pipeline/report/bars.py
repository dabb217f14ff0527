"""Bars as inline SVG: the time of every stage, and a measure beside its limit."""

from collections.abc import Mapping

from markupsafe import Markup

from paredown.pipeline.report.svg import WIDTH, AxisScale, svg_picture, svg_tag, svg_text


def bar_chart(seconds: Mapping[str, float], words: Mapping[str, str]) -> Markup:
    """One horizontal bar per stage, with its duration in words."""
    scale = AxisScale(0.0, max(seconds.values()) or 1.0, 118.0, 360.0)
    parts = []
    for index, (name, value) in enumerate(seconds.items()):
        y = 8 + 26 * index
        parts += [
            svg_text(_cut(name), 110, y + 13, "name", "end"),
            svg_tag(
                "rect",
                svg_tag("title", f"{name}: {words[name]}"),
                x=118,
                y=y,
                height=18,
                width=max(scale(value) - 118, 1),
                class_="bar",
            ),
            svg_text(words[name], max(scale(value), 119) + 6, y + 13, "note"),
        ]
    about = "; ".join(f"{name} {words[name]}" for name in seconds)
    return svg_picture("stages", "Time per stage", about, (WIDTH, 14.0 + 26 * len(seconds)), *parts)


def _cut(name: str, most: int = 15) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def gauge_chart(before: float | None, after: float | None, limit: float | None, holds: bool | None) -> Markup:
    """A bar of `after` on the track of `before`, the limit as a mark; a table's other cells say the numbers."""
    values = [value for value in (before, after, limit) if value is not None]
    if not values or max(values) <= 0:
        return Markup("")
    scale = AxisScale(0.0, max(values), 0.0, 116.0)
    kind = "held" if holds else "missed" if holds is False else "open"
    parts = []
    if before is not None:
        parts.append(svg_tag("rect", x=0, y=4, width=scale(before), height=10, class_="track"))
    if after is not None:
        parts.append(svg_tag("rect", x=0, y=4, width=scale(after), height=10, class_=f"gauge {kind}"))
    if limit is not None:
        parts.append(svg_tag("rect", x=scale(limit), y=0, width=2.5, height=18, class_="mark"))
    return svg_tag("svg", *parts, viewBox="0 0 120 18", aria_hidden="true", class_="gauge")
