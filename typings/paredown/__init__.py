"""paredown pares an image classifier down until it fits the device it must run on, with proof.

    import paredown

    result = paredown.run("recipe.yaml")
    print(result.holds, result.artifact)
    for check in result.checks:
        print(check.name, check.before, check.after, check.limit, check.holds)

Files are named by path; relative paths inside of a recipe start from its folder. Calls raise `ParedownError`s, whose
text is one line for a person: `InputError` for what cannot be used as it is, `MissingError` for what is not installed,
`MachineError` where the machine refused. A limit that is not met is no error here: the result says so. `progress` is
called with a text, how much is done, and how much there is: `progress("3/8 search: alternatives", 1, 4)`.

Importing this package is cheap: torch and the runtimes are imported by the call that needs them. Plugins are written
against `paredown.plugins`. Everything else is internal and may move.
"""

from typing import TYPE_CHECKING

from paredown.pipeline.public.lazy import lazy_attributes

if TYPE_CHECKING:
    from paredown.models.errors import InputError, LimitError, MachineError, MissingError, ParedownError
    from paredown.models.progress import Progress
    from paredown.pipeline.gate.outcome import GateOutcome
    from paredown.pipeline.promises.promise import Promise, Verification
    from paredown.pipeline.public.calls import check, gate, load_recipe, plan, run, run_front, show, verify
    from paredown.pipeline.public.results import CheckResult, Description, PlanResult, RunResult
    from paredown.pipeline.public.version import __version__
    from paredown.pipeline.recipe.recipe import Recipe
    from paredown.stages.products.measure_check import MeasureCheck
    from paredown.stages.products.plan import Plan

__all__ = [
    "CheckResult",
    "Description",
    "GateOutcome",
    "InputError",
    "LimitError",
    "MachineError",
    "MeasureCheck",
    "MissingError",
    "ParedownError",
    "Plan",
    "PlanResult",
    "Progress",
    "Promise",
    "Recipe",
    "RunResult",
    "Verification",
    "__version__",
    "check",
    "gate",
    "load_recipe",
    "plan",
    "run",
    "run_front",
    "show",
    "verify",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "paredown.models.errors": (
            "InputError",
            "LimitError",
            "MachineError",
            "MissingError",
            "ParedownError",
        ),
        "paredown.models.progress": ("Progress",),
        "paredown.pipeline.gate.outcome": ("GateOutcome",),
        "paredown.pipeline.promises.promise": ("Promise", "Verification"),
        "paredown.pipeline.public.calls": (
            "check",
            "gate",
            "load_recipe",
            "plan",
            "run",
            "run_front",
            "show",
            "verify",
        ),
        "paredown.pipeline.public.results": (
            "CheckResult",
            "Description",
            "PlanResult",
            "RunResult",
        ),
        "paredown.pipeline.public.version": ("__version__",),
        "paredown.pipeline.recipe.recipe": ("Recipe",),
        "paredown.stages.products.measure_check": ("MeasureCheck",),
        "paredown.stages.products.plan": ("Plan",),
    },
)
