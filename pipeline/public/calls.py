"""The calls of `paredown`: the verbs of the command line, returning objects instead of printing."""

import os
from dataclasses import replace
from pathlib import Path

from paredown.models.errors import InputError, LimitError
from paredown.models.progress import Progress, silent_progress
from paredown.pipeline.gate.outcome import GateOutcome
from paredown.pipeline.promises.promise import Verification
from paredown.pipeline.public.results import CheckResult, Description, PlanResult, RunResult
from paredown.pipeline.recipe.recipe import Recipe, expand_front
from paredown.pipeline.recipe.recipe import load_recipe as read_recipe


def load_recipe(file: str | Path) -> Recipe:
    """The recipe in `file`, frozen and checked. Raises InputError with one line per fault: `file:line: what`."""
    return read_recipe(Path(file).absolute())


def check(recipe: str | Path | Recipe, out: str | Path = "runs", progress: Progress = silent_progress) -> CheckResult:
    """What can be known about a recipe before any work: its parts are there, its model can be traced, and all stages
    come through a rehearsal: the cheap part of their work, on a few images.

    Images are decoded into `<out>/.cache`, where a run finds them. Raises for the first thing that does not hold.
    """
    from paredown.pipeline.run.rehearsal import check_and_rehearse

    loaded, cache = _loaded(recipe), Path(out) / ".cache"
    lines = list(check_and_rehearse(loaded, cache, progress))
    warnings = [line for line in lines if line.startswith("warning: ")]
    return CheckResult(
        lines=tuple(line for line in lines if line not in warnings),
        warnings=tuple(line.removeprefix("warning: ") for line in warnings),
    )


def plan(recipe: str | Path | Recipe, out: str | Path = "runs", progress: Progress = silent_progress) -> PlanResult:
    """Searches, and returns the plan; `<out>/<recipe's name>/` shows what was made, and `run` goes on from there.

    In one process only: under torchrun use `run`.
    """
    from paredown.pipeline.public.runs import run_stages
    from paredown.pipeline.run.run_folder import as_damage, read_run_folder

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("paredown.plan runs in one process; under torchrun use paredown.run")
    loaded = _without_front(_loaded(recipe), "plan")
    refusal, folder = run_stages(loaded, Path(out), progress, until="search"), Path(out) / loaded.name
    with as_damage(folder):
        run_folder = read_run_folder(folder)
    if run_folder.plan is None:
        raise LimitError(refusal)
    return PlanResult(loaded.name, folder, run_folder.plan, refusal, run_folder.notes)


def run(
    recipe: str | Path | Recipe,
    out: str | Path = "runs",
    progress: Progress = silent_progress,
    *,
    locked: bool = False,
    rehearsal: bool = True,
) -> RunResult:
    """Runs a recipe, or goes on with it, and writes report, model card and, beside a recipe that is a file, its lock.

    With `locked` the artifact of the recipe's lock is made again without searching: `result.refusal` says what differs.
    Without `rehearsal` the first stage starts at once, also where `check` refuses the recipe.
    """
    loaded = _without_front(_loaded(recipe), "run")
    if locked:
        (result,) = _locked(loaded, _file_of(recipe), Path(out), progress)
        return result
    return _to_end(loaded, recipe, Path(out), progress, rehearsal=rehearsal)


def run_front(
    recipe: str | Path | Recipe,
    out: str | Path = "runs",
    progress: Progress = silent_progress,
    *,
    locked: bool = False,
    rehearsal: bool = True,
) -> tuple[RunResult, ...]:
    """Runs a recipe once per limit of its `front`, whatever becomes of the others; the results in that order.

    With `locked` the artifacts of the models' locks are made again. `rehearsal` is that of `run`.
    """
    loaded = _loaded(recipe)
    if not loaded.front:
        raise InputError(f"the recipe {loaded.name} has no front; paredown.run runs it")
    if locked:
        return _locked(loaded, _file_of(recipe), Path(out), progress)
    models = expand_front(loaded)
    return tuple(
        _to_end(model, recipe, Path(out), progress, model.name[len(loaded.name) :], rehearsal) for model in models
    )


def gate(
    model: str | Path,
    budgets: str | Path | None = None,
    baseline: str | Path | None = None,
    progress: Progress = silent_progress,
    *,
    static: bool = False,
    why: bool = False,
    seconds: float | None = None,
) -> GateOutcome:
    """Holds any ONNX classifier to the budgets in a file (default: no larger and no slower than `baseline`).

    Without `baseline` the pinned one of the budgets is used. `static` runs nothing, `why` adds tables of where bytes
    and milliseconds are, `seconds` is the longest that latency is measured. `outcome.verdict` is `pass`, `fail` or
    `inconclusive`.
    """
    from paredown.pipeline.gate.baseline_pin import pinned_baseline
    from paredown.pipeline.gate.budgets import gates_for
    from paredown.pipeline.gate.gate import GateRequest, run_gate

    gates = gates_for(Path(budgets) if budgets else None, seconds)
    compared = Path(baseline) if baseline else pinned_baseline(gates, Path(budgets)) if budgets else None
    return run_gate(GateRequest(Path(model), compared, gates, static, why), progress)


def verify(
    artifact: str | Path,
    baseline: str | Path | None = None,
    data: str | None = None,
    progress: Progress = silent_progress,
    *,
    runtime: str | None = None,
    seconds: float | None = None,
) -> Verification:
    """Measures a finished artifact again against its manifest, on this machine; `artifact` is its folder, a run's, or
    the model's file beside its manifest.

    `baseline` is the original's file where it does not lie beside, `data` a source of test images as in a recipe, where
    the recipe's own are not there, `runtime` the one to use where the manifest names a file of code, `seconds` the
    longest that latency is measured. `result.verdict` is `pass`, `fail` (a promise is broken) or `inconclusive`.
    """
    from paredown.pipeline.promises.verification import SECONDS, VerifyRequest, verify_artifact

    original = Path(baseline) if baseline else None
    return verify_artifact(VerifyRequest(Path(artifact), original, data, runtime, seconds or SECONDS), progress)


def show(file: str | Path) -> Description:
    """What an ONNX file is, from which recipe, with which evidence; `file` may be an artifact's or a run's folder."""
    from paredown.pipeline.artifact.artifact import read_artifact
    from paredown.pipeline.artifact.description import readable_facts

    artifact = read_artifact(Path(file))
    return Description(artifact, readable_facts(artifact))


def _loaded(recipe: str | Path | Recipe) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def _file_of(recipe: str | Path | Recipe) -> Path:
    """The file that a lock lies beside."""
    if isinstance(recipe, Recipe):
        raise InputError(f"the lock of {recipe.name} lies beside its file: give the file's path in the recipe's place")
    return Path(recipe)


def _without_front(recipe: Recipe, call: str) -> Recipe:
    if recipe.front:
        bounds = ", ".join(map(str, recipe.front))
        whole = f"paredown.{call} is for one model; paredown.run_front runs them all"
        raise InputError(f"the recipe {recipe.name} has a front ({bounds}): {whole}")
    return recipe


def _to_end(
    recipe: Recipe,
    file: str | Path | Recipe,
    out: Path,
    progress: Progress,
    suffix: str = "",
    rehearsal: bool = True,
) -> RunResult:
    from paredown.pipeline.public.runs import raise_failure, run_to_end

    result = run_to_end(recipe, out, progress, None if isinstance(file, Recipe) else Path(file), suffix, rehearsal)
    raise_failure(result)
    return result


def _locked(recipe: Recipe, file: Path, out: Path, progress: Progress) -> tuple[RunResult, ...]:
    from paredown.pipeline.lock.locked_run import locked_runs
    from paredown.pipeline.public.runs import raise_failure, run_locked

    results = []
    for model in locked_runs(recipe, file, out):
        result = run_locked(model, out, progress)
        raise_failure(result)
        results.append(replace(result, notes=(*model.warnings, *result.notes)))
    return tuple(results)
