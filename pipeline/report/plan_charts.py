"""Charts of plans as inline SVG: the Pareto front, and predicted against measured latency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paredown.pipeline.report.svg import (
    LEFT,
    RIGHT,
    WIDTH,
    Point,
    Scale,
    decades,
    dot,
    line,
    padded,
    path,
    picture,
    short,
    tag,
    ticks,
    upright,
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
        times = f"measured {short(self.measured)} ms, predicted {short(self.predicted)} ms"
        return f"{fate}: {times}, predicted loss +{short(self.loss)} nats"


def front(curve: Sequence[Point], plans: Sequence[PlanMark], limit: float | None, whole: float | None) -> Markup:
    """The Pareto front: ms against predicted loss (log scale); predicted curve, measured plans, limit, original."""
    levels = [value for value in (limit, whole) if value is not None]
    times = [x for x, _ in curve] + [plan.measured for plan in plans] + levels
    x = Scale(0.0, max(times) * 1.06, LEFT, RIGHT)
    y = _loss_scale([loss for _, loss in curve] + [plan.loss for plan in plans])
    parts = [x_axis(x, BOTTOM, ticks(0, x.high), "latency p50 (ms)", TOP)]
    parts += [y_axis(y, decades(y.low, y.high), "predicted loss increase (nats, log scale)")]
    if limit is not None:
        parts.append(upright(x, limit, (TOP, BOTTOM), f"limit kept to: {short(limit)} ms", "limit"))
    if whole is not None:
        parts.append(upright(x, whole, (TOP, BOTTOM), f"original {short(whole)} ms", "whole", row=1))
    parts.append(path([(x(ms), y(loss)) for ms, loss in curve], "curve"))
    parts += [
        dot(x(ms), y(loss), 3.5, "predicted", f"predicted: {short(ms)} ms, loss +{short(loss)} nats")
        for ms, loss in curve
    ]
    parts += [_measured(plan, x(plan.measured), y(plan.loss)) for plan in sorted(plans, key=lambda plan: plan.chosen)]
    about = f"{len(curve)} predicted points and {len(plans)} measured plans; numbers are in the titles of the marks."
    return picture("front", "Pareto front of latency and loss", about, (WIDTH, HEIGHT), *parts)


def _loss_scale(losses: Sequence[float]) -> Scale:
    """Whole decades around the losses; a loss of 0 lies on the floor."""
    positive = [loss for loss in losses if loss > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return Scale(10.0**low, 10.0 ** max(high, low + 1), BOTTOM, TOP, math.log10)


def _measured(plan: PlanMark, x: float, y: float) -> Markup:
    """A plan as a mark: filled where it held, hollow where it missed, with a ring around the chosen one."""
    ring = tag("circle", cx=x, cy=y, r=9, class_="ring") if plan.chosen else Markup("")
    return ring + dot(x, y, 5, "held" if plan.holds else "missed", str(plan))


def agreement(plans: Sequence[PlanMark]) -> Markup:
    """Predicted against measured ms, with the diagonal and the band of 5 %."""
    low, high = padded([value for plan in plans for value in (plan.predicted, plan.measured)], 0.15)
    low = max(low, 0.0)
    x, y = Scale(low, high, LEFT, RIGHT), Scale(low, high, BOTTOM, TOP)
    corners = [(low, low * (1 - BAND)), (high, high * (1 - BAND)), (high, high * (1 + BAND)), (low, low * (1 + BAND))]
    band = tag("polygon", points=" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners), class_="band")
    marks = [_measured(plan, x(plan.predicted), y(plan.measured)) for plan in sorted(plans, key=lambda p: p.chosen)]
    axes = [
        x_axis(x, BOTTOM, ticks(low, high), "predicted latency (ms)", TOP),
        y_axis(y, ticks(low, high), "measured latency (ms)"),
    ]
    diagonal = line((x(low), y(low)), (x(high), y(high)), "diagonal")
    about = f"{len(plans)} plans; on the diagonal prediction and measurement are equal."
    return picture(
        "agreement", "Predicted against measured latency", about, (WIDTH, HEIGHT), band, *axes, diagonal, *marks
    )
