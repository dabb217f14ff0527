"""SVG as text that is always escaped, and the few parts that all charts share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

WIDTH, LEFT, RIGHT = 480.0, 48.0, 468.0
"""The charts' canvas and the sides of their plot, in px of the view box."""


def svg_tag(name: str, *inside: str, **attributes: str | float) -> Markup:
    """An element. `class_` and `stroke_width` stand for `class` and `stroke-width`; text inside is escaped."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{pairs}>{Markup('').join(inside)}</{name}>")


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"


def svg_picture(name: str, title: str, about: str, size: Point, *inside: str) -> Markup:
    """An `<svg>` of `size` px that says to a screen reader what it shows."""
    head = svg_tag("title", title, id=f"{name}-title"), svg_tag("desc", about, id=f"{name}-about")
    return svg_tag(
        "svg",
        *head,
        *inside,
        viewBox=f"0 0 {size[0]:g} {size[1]:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-about",
    )


@dataclass(frozen=True)
class AxisScale:
    """Values `low`..`high` to px `start`..`end`, after `bend` (logarithm, square root)."""

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.bend(self.low), self.bend(self.high)
        inside = min(max(value, self.low), self.high)
        return self.start + (self.bend(inside) - low) / (high - low) * (self.end - self.start)


def padded_range(values: Sequence[float], share: float = 0.08) -> Point:
    """A range around the values that is never empty."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def axis_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers inside a range."""
    raw = (high - low) / count
    base = 10 ** math.floor(math.log10(raw))
    step = base * next(factor for factor in (1, 2, 5, 10) if factor * base >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def decade_ticks(low: float, high: float) -> list[float]:
    """The powers of ten inside a range."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def svg_text(words: str, x: float, y: float, class_: str = "", anchor: str = "start") -> Markup:
    return svg_tag("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def svg_line(a: Point, b: Point, class_: str) -> Markup:
    return svg_tag("line", x1=a[0], y1=a[1], x2=b[0], y2=b[1], class_=class_)


def svg_path(points: Sequence[Point], class_: str) -> Markup:
    return svg_tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def svg_dot(x: float, y: float, radius: float, class_: str, title: str) -> Markup:
    return svg_tag("circle", svg_tag("title", title), cx=x, cy=y, r=radius, class_=class_)


def x_axis(scale: AxisScale, y: float, values: Sequence[float], label: str, top: float) -> Markup:
    """Grid, numbers and name of the horizontal axis, whose plot reaches from `y` up to `top`."""
    grid = [svg_line((scale(v), top), (scale(v), y), "grid") for v in values]
    names = [svg_text(short_number(v), scale(v), y + 16, "tick", "middle") for v in values]
    return Markup("").join([*grid, *names, svg_text(label, (scale.start + scale.end) / 2, y + 34, "axis", "middle")])


def y_axis(scale: AxisScale, values: Sequence[float], label: str) -> Markup:
    """Grid, numbers and name of the vertical axis; the name stands above the plot, where it needs no turned head."""
    grid = [svg_line((LEFT, scale(v)), (RIGHT, scale(v)), "grid") for v in values]
    names = [svg_text(short_number(v), LEFT - 6, scale(v) + 4, "tick", "end") for v in values]
    return Markup("").join([*grid, *names, svg_text(label, 4, scale.end - 10, "axis")])


def upright_label(scale: AxisScale, value: float, ends: Point, label: str, class_: str, row: int = 0) -> Markup:
    """A vertical line with its name at the top, on the side that has room; `row` moves the name down."""
    x, (top, bottom) = scale(value), ends
    left = x < (scale.start + scale.end) / 2
    named = svg_text(label, x + (5 if left else -5), top + 12 + 15 * row, f"note {class_}", "start" if left else "end")
    return svg_line((x, top), (x, bottom), f"rule {class_}") + named


def short_number(value: float, digits: int = 4) -> str:
    """A number with up to four significant digits and no exponent where it can be read without one."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 4}e}".replace("e-0", "e-").replace("e+0", "e")
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.{digits + 2}f}".rstrip("0").rstrip(".") if abs(rounded) < 1e6 else f"{rounded:g}"
