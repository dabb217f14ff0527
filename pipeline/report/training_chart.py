"""The chart of training as inline SVG: accuracy on validation and loss, epoch by epoch."""

import math
from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from paredown.pipeline.report.svg import (
    LEFT,
    RIGHT,
    WIDTH,
    AxisScale,
    axis_ticks,
    padded_range,
    svg_dot,
    svg_line,
    svg_path,
    svg_picture,
    svg_text,
    y_axis,
)
from paredown.stages.products.training_curve import TrainingEpoch

TOP, ACCURACY_BOTTOM, LOSS_TOP, LOSS_BOTTOM = 30.0, 190.0, 250.0, 326.0
PHASES = {
    "fit": "the original learns the data",
    "distil": "the pared-down network learns from the original",
    "quantize": "the same with int8 imitated",
}
"""Training phases that have a colour of their own, in words."""


def curve_chart(epochs: Sequence[TrainingEpoch], baseline: float | None) -> Markup:
    """Accuracy on validation, and the training loss, over the epochs of all phases one after the other."""
    level = [] if baseline is None else [baseline]
    accuracy = padded_range([epoch.accuracy for epoch in epochs] + level, 0.12)
    losses = [epoch.loss for epoch in epochs]
    x = AxisScale(0.5, len(epochs) + 0.5, LEFT, RIGHT)
    upper, lower = (
        AxisScale(*accuracy, ACCURACY_BOTTOM, TOP),
        AxisScale(0.0, max(losses) * 1.1 or 1.0, LOSS_BOTTOM, LOSS_TOP),
    )
    parts = [y_axis(upper, axis_ticks(*accuracy, 6), "accuracy on validation (points)")]
    parts += [y_axis(lower, axis_ticks(0, lower.high, 3), "training loss (each phase has its own)")]
    if baseline is not None:
        parts.append(_level(upper, baseline, f"original {baseline:.2f}"))
    parts += [_phase(list(group), x, upper, lower) for _, group in groupby(enumerate(epochs, 1), _phase_of)]
    parts += _epoch_numbers(epochs, x)
    about = f"{len(epochs)} epochs; numbers are in the titles of the marks."
    return svg_picture("curves", "Training curves", about, (WIDTH, LOSS_BOTTOM + 38), *parts)


def _phase_of(numbered: tuple[int, TrainingEpoch]) -> str:
    return numbered[1].phase


def _level(scale: AxisScale, value: float, label: str) -> Markup:
    y = scale(value)
    return svg_line((LEFT, y), (RIGHT, y), "rule whole") + svg_text(label, LEFT + 4, y - 6, "note whole", "start")


def _phase(epochs: Sequence[tuple[int, TrainingEpoch]], x: AxisScale, upper: AxisScale, lower: AxisScale) -> Markup:
    """One phase: two lines with their marks, and a border to the phase before it."""
    name = _phase_of(epochs[0])
    kind = name if name in PHASES else "other"
    border = svg_line((x(epochs[0][0] - 0.5), TOP), (x(epochs[0][0] - 0.5), LOSS_BOTTOM), "border")
    parts = [border if epochs[0][0] > 1 else Markup("")]
    accuracies, losses = [epoch.accuracy for _, epoch in epochs], [epoch.loss for _, epoch in epochs]
    for scale, values, unit in ((upper, accuracies, "points"), (lower, losses, "loss")):
        places = [(x(index), scale(value)) for (index, _), value in zip(epochs, values, strict=True)]
        titles = [
            f"{name}, epoch {epoch.epoch}: {value:.4g} {unit}" for (_, epoch), value in zip(epochs, values, strict=True)
        ]
        parts.append(svg_path(places, f"phase {kind}"))
        parts += [svg_dot(*place, 3.5, f"epoch {kind}", words) for place, words in zip(places, titles, strict=True)]
    room = x(epochs[-1][0] + 0.5) - x(epochs[0][0] - 0.5)
    if room > 8 * len(name):
        parts.append(
            svg_text(name, x((epochs[0][0] + epochs[-1][0]) / 2), ACCURACY_BOTTOM + 17, f"note {kind}", "middle")
        )
    return Markup("").join(parts)


def _epoch_numbers(epochs: Sequence[TrainingEpoch], x: AxisScale) -> list[Markup]:
    every = math.ceil(len(epochs) / 16)
    numbers = [
        svg_text(str(epoch.epoch), x(index), LOSS_BOTTOM + 16, "tick", "middle")
        for index, epoch in enumerate(epochs, 1)
        if (index - 1) % every == 0
    ]
    return [*numbers, svg_text("epoch of the phase", (LEFT + RIGHT) / 2, LOSS_BOTTOM + 34, "axis", "middle")]
