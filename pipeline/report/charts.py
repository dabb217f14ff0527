"""The report's charts: pure functions from numbers to inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

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
    text,
    ticks,
    upright,
    x_axis,
    y_axis,
)
from paredown.stages.products.training_curve import Epoch

TOP, BOTTOM, HEIGHT = 30.0, 262.0, 304.0
ACCURACY_BOTTOM, LOSS_TOP, LOSS_BOTTOM = 190.0, 250.0, 326.0
BAND = 0.05
"""The relative error that the chart of predictions shades."""
PHASES = {
    "fit": "the original learns the data",
    "distil": "the pared-down network learns from the original",
    "quantize": "the same with int8 imitated",
}
"""Training phases that have a colour of their own, in words."""


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


def curves(epochs: Sequence[Epoch], baseline: float | None) -> Markup:
    """Accuracy on validation, and the training loss, over the epochs of all phases one after the other."""
    level = [] if baseline is None else [baseline]
    accuracy = padded([epoch.accuracy for epoch in epochs] + level, 0.12)
    losses = [epoch.loss for epoch in epochs]
    x = Scale(0.5, len(epochs) + 0.5, LEFT, RIGHT)
    upper, lower = Scale(*accuracy, ACCURACY_BOTTOM, TOP), Scale(0.0, max(losses) * 1.1 or 1.0, LOSS_BOTTOM, LOSS_TOP)
    parts = [y_axis(upper, ticks(*accuracy, 6), "accuracy on validation (points)")]
    parts += [y_axis(lower, ticks(0, lower.high, 3), "training loss (each phase has its own)")]
    if baseline is not None:
        parts.append(_level(upper, baseline, f"original {baseline:.2f}"))
    parts += [_phase(list(group), x, upper, lower) for _, group in groupby(enumerate(epochs, 1), _phase_of)]
    parts += _epoch_numbers(epochs, x)
    about = f"{len(epochs)} epochs; numbers are in the titles of the marks."
    return picture("curves", "Training curves", about, (WIDTH, LOSS_BOTTOM + 38), *parts)


def _phase_of(numbered: tuple[int, Epoch]) -> str:
    return numbered[1].phase


def _level(scale: Scale, value: float, label: str) -> Markup:
    y = scale(value)
    return line((LEFT, y), (RIGHT, y), "rule whole") + text(label, LEFT + 4, y - 6, "note whole", "start")


def _phase(epochs: Sequence[tuple[int, Epoch]], x: Scale, upper: Scale, lower: Scale) -> Markup:
    """One phase: two lines with their marks, and a border to the phase before it."""
    name = _phase_of(epochs[0])
    kind = name if name in PHASES else "other"
    border = line((x(epochs[0][0] - 0.5), TOP), (x(epochs[0][0] - 0.5), LOSS_BOTTOM), "border")
    parts = [border if epochs[0][0] > 1 else Markup("")]
    accuracies, losses = [epoch.accuracy for _, epoch in epochs], [epoch.loss for _, epoch in epochs]
    for scale, values, unit in ((upper, accuracies, "points"), (lower, losses, "loss")):
        places = [(x(index), scale(value)) for (index, _), value in zip(epochs, values, strict=True)]
        titles = [
            f"{name}, epoch {epoch.epoch}: {value:.4g} {unit}" for (_, epoch), value in zip(epochs, values, strict=True)
        ]
        parts.append(path(places, f"phase {kind}"))
        parts += [dot(*place, 3.5, f"epoch {kind}", words) for place, words in zip(places, titles, strict=True)]
    room = x(epochs[-1][0] + 0.5) - x(epochs[0][0] - 0.5)
    if room > 8 * len(name):
        parts.append(text(name, x((epochs[0][0] + epochs[-1][0]) / 2), ACCURACY_BOTTOM + 17, f"note {kind}", "middle"))
    return Markup("").join(parts)


def _epoch_numbers(epochs: Sequence[Epoch], x: Scale) -> list[Markup]:
    every = math.ceil(len(epochs) / 16)
    numbers = [
        text(str(epoch.epoch), x(index), LOSS_BOTTOM + 16, "tick", "middle")
        for index, epoch in enumerate(epochs, 1)
        if (index - 1) % every == 0
    ]
    return [*numbers, text("epoch of the phase", (LEFT + RIGHT) / 2, LOSS_BOTTOM + 34, "axis", "middle")]


def bars(seconds: Mapping[str, float], words: Mapping[str, str]) -> Markup:
    """One horizontal bar per stage, with its duration in words."""
    scale = Scale(0.0, max(seconds.values()) or 1.0, 118.0, 360.0)
    parts = []
    for index, (name, value) in enumerate(seconds.items()):
        y = 8 + 26 * index
        parts += [
            text(_cut(name), 110, y + 13, "name", "end"),
            tag(
                "rect",
                tag("title", f"{name}: {words[name]}"),
                x=118,
                y=y,
                height=18,
                width=max(scale(value) - 118, 1),
                class_="bar",
            ),
            text(words[name], max(scale(value), 119) + 6, y + 13, "note"),
        ]
    about = "; ".join(f"{name} {words[name]}" for name in seconds)
    return picture("stages", "Time per stage", about, (WIDTH, 14.0 + 26 * len(seconds)), *parts)


def _cut(name: str, most: int = 15) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def gauge(before: float | None, after: float | None, limit: float | None, holds: bool | None) -> Markup:
    """A bar of `after` on the track of `before`, the limit as a mark; a table's other cells say the numbers."""
    values = [value for value in (before, after, limit) if value is not None]
    if not values or max(values) <= 0:
        return Markup("")
    scale = Scale(0.0, max(values), 0.0, 116.0)
    kind = "held" if holds else "missed" if holds is False else "open"
    parts = []
    if before is not None:
        parts.append(tag("rect", x=0, y=4, width=scale(before), height=10, class_="track"))
    if after is not None:
        parts.append(tag("rect", x=0, y=4, width=scale(after), height=10, class_=f"gauge {kind}"))
    if limit is not None:
        parts.append(tag("rect", x=scale(limit), y=0, width=2.5, height=18, class_="mark"))
    return tag("svg", *parts, viewBox="0 0 120 18", aria_hidden="true", class_="gauge")
