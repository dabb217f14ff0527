"""Writes the plan of a run as a SparseML recipe: levels and precisions layer by layer, and how it trains."""

from collections.abc import Iterable
from pathlib import Path

from paredown.models.errors import InputError
from paredown.pipeline.recipe.recipe import Recipe
from paredown.pipeline.report.plan_rows import read_plan
from paredown.pipeline.run.run_folder import as_damage
from paredown.pipeline.sparseml.epoch_style import epoch_style
from paredown.pipeline.sparseml.stage_style import stage_style
from paredown.pipeline.sparseml.trained_plan import TrainedPlan, refuse_changes, refuse_masks
from paredown.stages.products.plan import Plan
from paredown.stages.recover import Recover
from paredown.stages.transforms.loading import transform_of


def export_recipe(recipe: Recipe, file: Path, out: Path, style: str) -> tuple[str, tuple[str, ...]]:
    """The text of the SparseML recipe in a style, `epoch` or `stage`, and a line for what it cannot say.

    Raises InputError where the run has no plan, and where the plan changes what SparseML cannot: widths, blocks, and
    patterns that it has no working mask for.
    """
    plan = read_plan(out / recipe.name)
    if plan is None or not plan.layers:
        raise InputError(f"{out / recipe.name} holds no plan; make one with: paredown plan {file}")
    with as_damage(out / recipe.name):
        return _exported(recipe, file, plan, style)


def _exported(recipe: Recipe, file: Path, plan: Plan, style: str) -> tuple[str, tuple[str, ...]]:
    refuse_changes(plan)
    trained = _trained(recipe, plan)
    refuse_masks(trained.pruned, style)
    if not trained.pruned and not trained.int8:
        raise InputError(f"the plan of {file} neither prunes nor quantizes a layer: there is nothing to export")
    text = f"# The plan that paredown found for the recipe {recipe.name}.\n"
    text += epoch_style(trained) if style == "epoch" else stage_style(trained)
    return text, tuple(_notes(plan, trained, style))


def _trained(recipe: Recipe, plan: Plan) -> TrainedPlan:
    stages = [step.stage for step in recipe.pipeline]
    recover = next((stage for stage in stages if isinstance(stage, Recover)), Recover())
    transforms = [stage.named_plugins().get("transforms", {}) for stage in stages]
    methods = [named["sparsify"].get("method", "obs") for named in transforms if "sparsify" in named]
    layers = [layer for layer in plan.layers if layer.op != "add"]
    return TrainedPlan(layers, recover, recover.gradual, next(iter(methods), "obs"))


def _notes(plan: Plan, trained: TrainedPlan, style: str) -> Iterable[str]:
    """What the SparseML recipe leaves unsaid."""
    for site in plan.sites:
        side = plan.choice.get(site.name)
        if transform_of(site.name).FEATURE == "resize" and side != site.candidates[0]:
            yield f"the plan computes on images of {side} px: shrink them before training"
    if trained.end and trained.recover.features > 0:
        yield f"recover.features: {trained.recover.features:g} (SparseML compares answers only)"
    if trained.end:
        yield "recover.distil.ema, the warm-up of the learning rate and AdamW (they belong to your training script)"
        yield "recover.distil.batch (it belongs to your training script)"
    if trained.end and style == "stage":
        yield "learning rates and weight decay (stage style has no modifiers for them)"
    if trained.pruned and trained.method == "obs" and (style == "epoch" or trained.gradual):
        yield "sparsify.method: obs (written as magnitude pruning, to the same levels)"
