"""Charts of plans as inline SVG: the Pareto front, and predicted against measured latency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paredown.pipeline.report.svg import (
    LEFT,
    RIGHT,
    WIDTH,
    AxisScale,
    Point,
    axis_ticks,
    decade_ticks,
    padded_range,
    short_number,
    svg_dot,
    svg_line,
    svg_path,
    svg_picture,
    svg_tag,
    upright_label,
    x_axis,
    y_axis,
)

TOP, BOTTOM, HEIGHT = 30.0, 262.0, 304.0
BAND = 0.05
"""The relative error that the chart of predictions shades."""


@dataclass(frozen=True)
class PlanMark:
    """A measured plan as charts mark it: ms predicted and measured, and its predicted loss increase in nats."""

    predicted: float
    measured: float
    loss: float
    holds: bool
    chosen: bool

    @property
    def error(self) -> float:
        return abs(self.predicted / self.measured - 1)

    def __str__(self) -> str:
        fate = "chosen plan" if self.chosen else "held every limit" if self.holds else "missed a limit"
        times = f"measured {short_number(self.measured)} ms, predicted {short_number(self.predicted)} ms"
        return f"{fate}: {times}, predicted loss +{short_number(self.loss)} nats"


def front_chart(curve: Sequence[Point], plans: Sequence[PlanMark], limit: float | None, whole: float | None) -> Markup:
    """The Pareto front: ms against predicted loss (log scale); predicted curve, measured plans, limit, original."""
    levels = [value for value in (limit, whole) if value is not None]
    times = [x for x, _ in curve] + [plan.measured for plan in plans] + levels
    x = AxisScale(0.0, max(times) * 1.06, LEFT, RIGHT)
    y = _loss_scale([loss for _, loss in curve] + [plan.loss for plan in plans])
    parts = [x_axis(x, BOTTOM, axis_ticks(0, x.high), "latency p50 (ms)", TOP)]
    parts += [y_axis(y, decade_ticks(y.low, y.high), "predicted loss increase (nats, log scale)")]
    if limit is not None:
        parts.append(upright_label(x, limit, (TOP, BOTTOM), f"limit kept to: {short_number(limit)} ms", "limit"))
    if whole is not None:
        parts.append(upright_label(x, whole, (TOP, BOTTOM), f"original {short_number(whole)} ms", "whole", row=1))
    parts.append(svg_path([(x(ms), y(loss)) for ms, loss in curve], "curve"))
    parts += [
        svg_dot(x(ms), y(loss), 3.5, "predicted", f"predicted: {short_number(ms)} ms, loss +{short_number(loss)} nats")
        for ms, loss in curve
    ]
    parts += [_measured(plan, x(plan.measured), y(plan.loss)) for plan in sorted(plans, key=lambda plan: plan.chosen)]
    about = f"{len(curve)} predicted points and {len(plans)} measured plans; numbers are in the titles of the marks."
    return svg_picture("front", "Pareto front of latency and loss", about, (WIDTH, HEIGHT), *parts)


def _loss_scale(losses: Sequence[float]) -> AxisScale:
    """Whole decades around the losses; a loss of 0 lies on the floor."""
    positive = [loss for loss in losses if loss > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return AxisScale(10.0**low, 10.0 ** max(high, low + 1), BOTTOM, TOP, math.log10)


def _measured(plan: PlanMark, x: float, y: float) -> Markup:
    """A plan as a mark: filled where it held, hollow where it missed, with a ring around the chosen one."""
    ring = svg_tag("circle", cx=x, cy=y, r=9, class_="ring") if plan.chosen else Markup("")
    return ring + svg_dot(x, y, 5, "held" if plan.holds else "missed", str(plan))


def agreement_chart(plans: Sequence[PlanMark]) -> Markup:
    """Predicted against measured ms, with the diagonal and the band of 5 %."""
    low, high = padded_range([value for plan in plans for value in (plan.predicted, plan.measured)], 0.15)
    low = max(low, 0.0)
    x, y = AxisScale(low, high, LEFT, RIGHT), AxisScale(low, high, BOTTOM, TOP)
    corners = [(low, low * (1 - BAND)), (high, high * (1 - BAND)), (high, high * (1 + BAND)), (low, low * (1 + BAND))]
    band = svg_tag("polygon", points=" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners), class_="band")
    marks = [_measured(plan, x(plan.predicted), y(plan.measured)) for plan in sorted(plans, key=lambda p: p.chosen)]
    axes = [
        x_axis(x, BOTTOM, axis_ticks(low, high), "predicted latency (ms)", TOP),
        y_axis(y, axis_ticks(low, high), "measured latency (ms)"),
    ]
    diagonal = svg_line((x(low), y(low)), (x(high), y(high)), "diagonal")
    about = f"{len(plans)} plans; on the diagonal prediction and measurement are equal."
    return svg_picture(
        "agreement", "Predicted against measured latency", about, (WIDTH, HEIGHT), band, *axes, diagonal, *marks
    )
