"""The report's sections: which chart, what it says in words, and where the numbers come from."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paredown.pipeline.report.bars import bar_chart
from paredown.pipeline.report.plan_charts import BAND, PlanMark, agreement_chart, front_chart
from paredown.pipeline.report.svg import short_number
from paredown.pipeline.report.training_chart import PHASES, curve_chart
from paredown.pipeline.report.written_measures import accuracy_in_words, with_ends
from paredown.pipeline.run.run_folder import RunFolder
from paredown.stages.products.costs import UNITS
from paredown.stages.products.plan import Plan
from paredown.stages.products.training_curve import TrainingEpoch
from paredown.stages.training.outcome import where_best

Legend = tuple[tuple[str, str], ...]
"""(class of the swatch, what it stands for)."""

PLANS: Legend = (
    ("held", "measured, held every limit"),
    ("missed", "measured, missed a limit"),
    ("ring", "the chosen plan"),
)


@dataclass(frozen=True)
class ReportSection:
    """A chart with its words; `lack` says why there is none."""

    name: str
    title: str
    lack: str = ""
    chart: str = ""
    says: tuple[str, ...] = ()
    legend: Legend = ()


def report_sections(run: RunFolder) -> dict[str, ReportSection]:
    """Every section by name."""
    return {s.name: s for s in (_front(run), _curves(run), _agreement(run), _stages(run))}


def plan_marks(plan: Plan | None) -> tuple[PlanMark, ...]:
    """The plans that the search measured; the chosen one is that whose measurement the plan itself repeats."""
    chosen = plan.measured.latency if plan and plan.measured else None
    return tuple(
        PlanMark(
            predicted=one.predicted.latency,
            measured=one.measured.latency,
            loss=one.loss,
            holds=one.holds,
            chosen=one.measured.latency == chosen,
        )
        for one in (plan.measured_plans if plan else ())
    )


def _front(run: RunFolder) -> ReportSection:
    name, title, plan = "front", "What each millisecond costs in quality", run.plan
    if plan is None:
        return ReportSection(name, title, run.lacks("plan", "Pareto front"))
    curve = list(dict.fromkeys((point.latency, point.loss) for point in plan.front if point.loss is not None))
    plans = plan_marks(plan)
    if not curve and not plans:
        return ReportSection(name, title, _unsearched(plan))
    latency = run.baseline and run.baseline.latency
    chart = front_chart(curve, plans, plan.limits.get("latency"), latency.p50 if latency else None)
    says = [
        "The curve is the least predicted loss for each latency, before any training to recover accuracy, with the "
        "other limits kept. Marks are plans that were lowered to ONNX and measured.",
    ]
    if "latency" in plan.limits:
        says.append("The limit is the recipe's, less the margin that the search keeps free.")
    says += [*_other_p50(run)]
    if plan.gap is not None:
        says.append(f"The solver proved the chosen plan within {100 * plan.gap:.2g} % of the best predicted one.")
    return ReportSection(name, title, "", chart, tuple(says), (("curve", "predicted Pareto front"), *PLANS))


def _other_p50(run: RunFolder) -> Iterator[str]:
    """Why the original's p50 in this chart is not that of the table at the head."""
    first, last = run.baseline and run.baseline.latency, run.manifest and run.manifest.baseline.latency
    if first and last and first.p50 != last.p50:
        yield (
            f"Milliseconds here are the search's, for which the original was measured before it: p50 "
            f"{with_ends(first.p50, first.p50_ends)} ms. The table at the head has what verify measured at the end, in "
            f"turns with the artifact: {with_ends(last.p50, last.p50_ends)} ms. What differs is the machine at these "
            "two times; the plans' ratios to the original are of one time each."
        )


def _unsearched(plan: Plan) -> str:
    """Why a plan holds no front; what the solver proved about it."""
    if plan.replayed:
        return "No Pareto front: the plan is that of a lock, nothing was searched."
    reached = "; ".join(
        f"{name} can reach {short_number(value)} {UNITS.get(name, '')} at best" for name, value in plan.least.items()
    )
    text = "No Pareto front: the search ended without a plan that holds."
    return f"{text} Proved by the solver: {reached}." if reached else text


def _curves(run: RunFolder) -> ReportSection:
    name, title = "curves", "Training"
    epochs = [epoch for epoch in run.epochs if math.isfinite(epoch.loss) and math.isfinite(epoch.accuracy)]
    lack = run.lacks("recovered", "recovery curves")
    if not epochs:
        return ReportSection(name, title, lack or "No training curves: the recipe trains for no epoch.")
    baseline = run.baseline.accuracy.get("validation") if run.baseline else None
    chart = curve_chart(epochs, baseline)
    images = run.baseline.images.get("validation", 0) if run.baseline else 0
    best = [
        f"{phase} {_points(max(values), images, run.confidence)}, {where_best(values)}"
        for phase, values in _by_phase(epochs).items()
    ]
    says = [f"Best accuracy on validation by phase: {'; '.join(best)}. Every phase keeps its best epoch."]
    after = run.manifest.artifact.accuracy.get("validation") if run.manifest else None
    if after is not None and baseline is not None:
        had, has = (_points(points, images, run.confidence) for points in (baseline, after))
        says.append(f"On validation the original has {had}, the artifact on its runtime {has}.")
    if len(epochs) < len(run.epochs):
        says.append(f"Not drawn, as loss or accuracy is no number: {len(run.epochs) - len(epochs)} of the epochs.")
    says += [lack] if lack else []
    legend = tuple(_swatch(phase) for phase in _by_phase(epochs))
    return ReportSection(name, title, "", chart, tuple(says), (*legend, ("whole", "the original's accuracy")))


def _points(points: float, images: int, confidence: float) -> str:
    return accuracy_in_words(points, images, confidence) if images else f"{points:.2f} %"


def _swatch(phase: str) -> tuple[str, str]:
    return (phase, f"{phase}: {PHASES[phase]}") if phase in PHASES else ("other", phase)


def _by_phase(epochs: Sequence[TrainingEpoch]) -> dict[str, list[float]]:
    """Phase to the accuracies of its epochs."""
    accuracies: dict[str, list[float]] = {}
    for epoch in epochs:
        accuracies.setdefault(epoch.phase, []).append(epoch.accuracy)
    return accuracies


def _agreement(run: RunFolder) -> ReportSection:
    name, title = "agreement", "Were the predictions right?"
    plans, says = plan_marks(run.plan), tuple(_quality(run))
    if not plans:
        lack = run.lacks("plan", "predictions") or "No predictions: the search recorded no measured plan."
        return ReportSection(name, title, lack, says=says)
    errors = [plan.error for plan in plans]
    samples = len(run.profile.costs.samples) if run.profile and run.profile.costs else 0
    words = (
        f"Latency of the {len(plans)} measured plans: median error {100 * statistics.median(errors):.1f} %, "
        f"worst {100 * max(errors):.1f} %. The cost model was corrected after each of them. "
        f"The {samples} plans of the profile, to which it was fitted, are not "
        "drawn: their predictions are not stored."
    )
    legend: Legend = (*PLANS, ("band", f"within {100 * BAND:.0f} %"))
    return ReportSection(name, title, "", agreement_chart(plans), (words, *says), legend)


def _quality(run: RunFolder) -> Iterator[str]:
    losses, check = run.sensitivity, run.plan and run.plan.loss_check
    if check:
        yield f"Quality of the chosen plan: {check.sentence()}."
    if losses and losses.spearman is not None:
        yield (
            f"Over {losses.plans} random whole plans the rank correlation (Spearman) of predicted and "
            f"measured loss is {losses.spearman:.3f}; 1 is perfect. The weights of the kinds of change were fitted "
            "to the same plans, those of single sites, if any, to the others."
        )
    elif lack := run.lacks("sensitivity", "quality correlation"):
        yield lack


def _stages(run: RunFolder) -> ReportSection:
    name, title = "stages", "Time per stage"
    if not run.timings:
        return ReportSection(name, title, "No times: the run has noted none.")
    words = {stage: readable_duration(seconds) for stage, seconds in run.timings.items()}
    seconds = readable_duration(sum(run.timings.values()))
    total = f"Together {seconds}. A product that was taken from the store keeps its time."
    return ReportSection(name, title, "", bar_chart(run.timings, words), (total,))


def readable_duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if seconds < 3600:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"
