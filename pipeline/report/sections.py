"""The report's sections: which chart, what it says in words, and where the numbers come from."""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paredown.pipeline.report import charts
from paredown.pipeline.report.charts import Tried
from paredown.pipeline.report.svg import short
from paredown.pipeline.run.run_folder import RunFolder

Legend = tuple[tuple[str, str], ...]
"""(class of the swatch, what it stands for)."""

PLANS: Legend = (
    ("held", "measured, held every limit"),
    ("missed", "measured, missed a limit"),
    ("ring", "the chosen plan"),
)


UNITS = {"latency": "ms", "size": "MiB", "memory": "MiB"}


@dataclass(frozen=True)
class Section:
    """A chart with its words; `lack` says why there is none."""

    name: str
    title: str
    lack: str = ""
    chart: str = ""
    says: tuple[str, ...] = ()
    legend: Legend = ()


def all_of(run: RunFolder) -> dict[str, Section]:
    """Every section by name."""
    return {s.name: s for s in (_front(run), _curves(run), _agreement(run), _stages(run))}


def tried(plan: Mapping[str, Any]) -> tuple[Tried, ...]:
    """The plans that the search measured; the chosen one is that whose measurement the plan itself repeats."""
    chosen = (plan.get("measured") or {}).get("latency")
    return tuple(
        Tried(
            predicted=one["predicted"]["latency"],
            measured=one["measured"]["latency"],
            loss=one["loss"],
            holds=one["holds"],
            chosen=one["measured"]["latency"] == chosen,
        )
        for one in plan.get("measured_plans", ())
    )


def _front(run: RunFolder) -> Section:
    name, title, plan = "front", "What each millisecond costs in quality", run.document("plan")
    curve = list(dict.fromkeys((point["latency"], point["loss"]) for point in plan.get("front", ())))
    plans = tried(plan)
    if not curve and not plans:
        return Section(name, title, run.lacks("plan", "Pareto front") or _unsearched(run))
    latency = run.document("baseline").get("latency") or {}
    chart = charts.front(curve, plans, plan["limits"].get("latency"), latency.get("p50"))
    says = [
        "The curve is the least predicted loss for each latency, before any training to recover accuracy, with the "
        "other limits kept. Marks are plans that were lowered to ONNX and measured.",
    ]
    if "latency" in plan["limits"]:
        says.append("The limit is the recipe's, less the margin that the search keeps free.")
    if plan.get("gap") is not None:
        says.append(f"The solver proved the chosen plan within {100 * plan['gap']:.2g} % of the best predicted one.")
    return Section(name, title, "", chart, tuple(says), (("curve", "predicted Pareto front"), *PLANS))


def _unsearched(run: RunFolder) -> str:
    """Why a plan holds no front; what the solver proved about it."""
    if run.document("plan").get("replayed"):
        return "No Pareto front: the plan is that of a lock, nothing was searched."
    least = run.document("plan").get("least") or {}
    reached = "; ".join(
        f"{name} can reach {short(value)} {UNITS.get(name, '')} at best" for name, value in least.items()
    )
    text = "No Pareto front: the search ended without a plan that holds."
    return f"{text} Proved by the solver: {reached}." if reached else text


def _curves(run: RunFolder) -> Section:
    name, title = "curves", "Training"
    fitted, recovered = run.document("original"), run.document("recovered")
    run_through = [*fitted, *recovered]
    epochs = [epoch for epoch in run_through if math.isfinite(epoch["loss"]) and math.isfinite(epoch["accuracy"])]
    lack = run.lacks("recovered", "recovery curves")
    if not epochs:
        return Section(name, title, lack or "No training curves: the recipe trains for no epoch.")
    baseline = run.document("baseline").get("accuracy", {}).get("validation")
    chart = charts.curves(epochs, baseline)
    best = [f"{phase} {max(values):.2f}" for phase, values in _by_phase(epochs).items()]
    says = [f"Best accuracy on validation by phase, in points: {', '.join(best)}. Every phase keeps its best epoch."]
    after = run.document("artifact").get("artifact", {}).get("accuracy", {}).get("validation")
    if after is not None and baseline is not None:
        says.append(f"On validation the original has {baseline:.2f}, the artifact on its runtime {after:.2f}.")
    if len(epochs) < len(run_through):
        says.append(f"Not drawn, as loss or accuracy is no number: {len(run_through) - len(epochs)} of the epochs.")
    says += [lack] if lack else []
    legend = tuple((kind if kind in charts.PHASES else "other", _PHASES.get(kind, kind)) for kind in _by_phase(epochs))
    return Section(name, title, "", chart, tuple(says), (*legend, ("whole", "the original's accuracy")))


_PHASES = {
    "fit": "fit: the original learns the data",
    "distil": "distil: the narrowed network learns from the original",
    "quantize": "quantize: trained with int8 imitated",
}


def _by_phase(epochs: list[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for epoch in epochs:
        found.setdefault(epoch["phase"], []).append(epoch["accuracy"])
    return found


def _agreement(run: RunFolder) -> Section:
    name, title = "agreement", "Were the predictions right?"
    plans, says = tried(run.document("plan")), tuple(_quality(run))
    if not plans:
        lack = run.lacks("plan", "predictions") or "No predictions: the search recorded no measured plan."
        return Section(name, title, lack, says=says)
    errors = [plan.error for plan in plans]
    words = (
        f"Latency of the {len(plans)} measured plans: median error {100 * statistics.median(errors):.1f} %, "
        f"worst {100 * max(errors):.1f} %. The cost model was corrected after each of them. "
        f"The {len(run.document('profile').get('samples', ()))} plans of the profile, to which it was fitted, are not "
        "drawn: their predictions are not stored."
    )
    legend: Legend = (*PLANS, ("band", f"within {100 * charts.BAND:.0f} %"))
    return Section(name, title, "", charts.agreement(plans), (words, *says), legend)


def _quality(run: RunFolder) -> Iterator[str]:
    found = run.document("sensitivity")
    if found.get("spearman") is not None:
        yield (
            f"Quality: over {found['plans']} random whole plans the rank correlation (Spearman) of predicted and "
            f"measured loss is {found['spearman']:.3f}; 1 is perfect. The weights of the kinds of change were fitted "
            "to the same plans, those of single sites, if any, to the others."
        )
    elif lack := run.lacks("sensitivity", "quality correlation"):
        yield lack


def _stages(run: RunFolder) -> Section:
    name, title = "stages", "Time per stage"
    if not run.timings:
        return Section(name, title, "No times: the run has noted none.")
    words = {stage: duration(seconds) for stage, seconds in run.timings.items()}
    total = f"Together {duration(sum(run.timings.values()))}. A product that was taken from the store keeps its time."
    return Section(name, title, "", charts.bars(run.timings, words), (total,))


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if seconds < 3600:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"
