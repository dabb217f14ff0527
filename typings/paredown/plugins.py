"""The names that plugins are written against: transforms, blocks, solvers, runtimes, engines and stages.

    from paredown.plugins import Candidate, Problem, Site, Solution

A plugin is a file that ends with `PLUGIN = TheClass`, named in a recipe by its path, or an entry point of an installed
package in the group of its kind: `paredown.transforms`, `paredown.blocks`, `paredown.solvers`, `paredown.runtimes`,
`paredown.engines` or `paredown.stages`. These names keep their meaning from one version to the next; docs/extending.md
has a working example of every kind.
"""

from typing import TYPE_CHECKING

from paredown.pipeline.public.lazy import lazy_attributes

if TYPE_CHECKING:
    from paredown.models.compression.fake_quant import observe_ranges
    from paredown.models.compression.scales import Range
    from paredown.models.compression.sparsity import Sparsity
    from paredown.models.data.dataset import ImageData, Split
    from paredown.models.data.opening import open_data
    from paredown.models.data.spec import DataSpec
    from paredown.models.errors import InputError, LimitError, MachineError, MissingError
    from paredown.models.loading.spec import ModelSpec
    from paredown.models.network.blocks import Place
    from paredown.models.network.layers import ChannelGroup, Layer
    from paredown.models.network.trace import Network
    from paredown.models.progress import Progress
    from paredown.models.spec import Spec
    from paredown.stages.analysis.changeable import layers_that_quantize, layers_with_weights
    from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
    from paredown.stages.base import Stage, State
    from paredown.stages.blocks.base import Block, Kernel, ResidualBlock, conv_unit
    from paredown.stages.engines.base import Engine, Labelled, TunedQuantization
    from paredown.stages.limits import Bound, Limits, Target
    from paredown.stages.measuring.accuracy import logits_of
    from paredown.stages.products.product_files import write_notes
    from paredown.stages.runtimes.base import Images, Load, Runtime
    from paredown.stages.runtimes.support.machine import ThisMachine
    from paredown.stages.runtimes.support.timing import between_runs, collector_off, take_turns
    from paredown.stages.solvers.base import Solver, is_far
    from paredown.stages.solvers.problem import (
        BorderCharge,
        Candidate,
        Choice,
        CostFactor,
        Costs,
        Pick,
        Problem,
        Site,
        Solution,
        Term,
        first_plan,
        holds_limits,
        is_plan,
        limit_excess,
        owners_first,
        plan_cost,
        plan_loss,
        site_exists,
        validate_problem,
    )
    from paredown.stages.transforms.base import LayerNumbers, Transform
    from paredown.stages.transforms.quantize import Quantize

__all__ = [
    "Block",
    "BorderCharge",
    "Bound",
    "Candidate",
    "ChannelGroup",
    "Choice",
    "CostFactor",
    "Costs",
    "DataSpec",
    "Engine",
    "ImageData",
    "Images",
    "InputError",
    "Kernel",
    "Labelled",
    "Layer",
    "LayerForm",
    "LayerNumbers",
    "LimitError",
    "Limits",
    "Load",
    "MachineError",
    "MissingError",
    "ModelSpec",
    "Network",
    "Pick",
    "Place",
    "PreparedModel",
    "Problem",
    "Progress",
    "Quantize",
    "Range",
    "ResidualBlock",
    "Runtime",
    "Site",
    "Solution",
    "Solver",
    "Sparsity",
    "Spec",
    "Split",
    "Stage",
    "State",
    "Target",
    "Term",
    "ThisMachine",
    "Transform",
    "TunedQuantization",
    "between_runs",
    "collector_off",
    "conv_unit",
    "first_plan",
    "holds_limits",
    "is_far",
    "is_plan",
    "layers_that_quantize",
    "layers_with_weights",
    "limit_excess",
    "logits_of",
    "observe_ranges",
    "open_data",
    "owners_first",
    "plan_cost",
    "plan_loss",
    "site_exists",
    "take_turns",
    "validate_problem",
    "write_notes",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "paredown.models.compression.fake_quant": ("observe_ranges",),
        "paredown.models.compression.scales": ("Range",),
        "paredown.models.compression.sparsity": ("Sparsity",),
        "paredown.models.data.dataset": (
            "ImageData",
            "Split",
        ),
        "paredown.models.data.opening": ("open_data",),
        "paredown.models.data.spec": ("DataSpec",),
        "paredown.models.errors": (
            "InputError",
            "LimitError",
            "MachineError",
            "MissingError",
        ),
        "paredown.models.loading.spec": ("ModelSpec",),
        "paredown.models.network.blocks": ("Place",),
        "paredown.models.network.layers": (
            "ChannelGroup",
            "Layer",
        ),
        "paredown.models.network.trace": ("Network",),
        "paredown.models.progress": ("Progress",),
        "paredown.models.spec": ("Spec",),
        "paredown.stages.analysis.changeable": (
            "layers_that_quantize",
            "layers_with_weights",
        ),
        "paredown.stages.analysis.prepared_model": (
            "LayerForm",
            "PreparedModel",
        ),
        "paredown.stages.base": (
            "Stage",
            "State",
        ),
        "paredown.stages.blocks.base": (
            "Block",
            "Kernel",
            "ResidualBlock",
            "conv_unit",
        ),
        "paredown.stages.engines.base": (
            "Engine",
            "Labelled",
            "TunedQuantization",
        ),
        "paredown.stages.limits": (
            "Bound",
            "Limits",
            "Target",
        ),
        "paredown.stages.measuring.accuracy": ("logits_of",),
        "paredown.stages.products.product_files": ("write_notes",),
        "paredown.stages.runtimes.base": (
            "Images",
            "Load",
            "Runtime",
        ),
        "paredown.stages.runtimes.support.machine": ("ThisMachine",),
        "paredown.stages.runtimes.support.timing": (
            "between_runs",
            "collector_off",
            "take_turns",
        ),
        "paredown.stages.solvers.base": (
            "Solver",
            "is_far",
        ),
        "paredown.stages.solvers.problem": (
            "BorderCharge",
            "Candidate",
            "Choice",
            "CostFactor",
            "Costs",
            "Pick",
            "Problem",
            "Site",
            "Solution",
            "Term",
            "first_plan",
            "holds_limits",
            "is_plan",
            "limit_excess",
            "owners_first",
            "plan_cost",
            "plan_loss",
            "site_exists",
            "validate_problem",
        ),
        "paredown.stages.transforms.base": (
            "LayerNumbers",
            "Transform",
        ),
        "paredown.stages.transforms.quantize": ("Quantize",),
    },
)
