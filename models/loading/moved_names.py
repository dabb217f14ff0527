"""Names that plugins import and that have moved: for one version a user's file still finds them.

To be deleted with the version after: this file, its test, and its call in `user_code`.
"""

import ast
import importlib
import importlib.util

MODULES: dict[str, tuple[str, ...]] = {
    "models.blocks": ("models.network.blocks",),
    "models.conv_integer": ("models.compression.conv_integer",),
    "models.data": ("models.data.spec", "models.data.dataset", "models.data.opening"),
    "models.fake_quant": ("models.compression.fake_quant",),
    "models.fold": ("models.network.batch_norm",),
    "models.graph": ("models.network.layers", "models.network.nodes", "models.network.trace"),
    "models.load": ("models.loading.spec", "models.loading.libraries", "models.loading.model"),
    "models.memo": ("models.network.weak_cache",),
    "models.onnx_export": ("models.onnx.export",),
    "models.onnx_graph": ("models.onnx.edit",),
    "models.qdq": ("models.compression.scales", "models.onnx.edit", "models.compression.qdq"),
    "models.resolution": ("models.compression.resolution",),
    "models.sparse": ("models.compression.sparsity", "models.compression.sparse_reconstruction"),
    "models.spec": ("models.errors",),
    "models.supernet": ("models.compression.supernet",),
    "models.surgery": ("models.compression.channel_groups",),
    "stages.base": ("stages.limits", "stages.products.product_files"),
    "stages.carry": ("models.compression.channel_compensation",),
    "stages.discovery": ("stages.plugins",),
    "stages.evidence": ("stages.products.evidence",),
    "stages.linearise": ("stages.solvers.linear_program",),
    "stages.measure": ("stages.measuring.target_runtime", "stages.measuring.model_files", "stages.measuring.accuracy"),
    "stages.original": ("stages.analysis.teacher",),
    "stages.pinning": ("stages.transforms.layer_patterns", "stages.planning.sites"),
    "stages.problem": ("stages.solvers.problem",),
    "stages.runtimes._inprocess": ("stages.runtimes.support.in_process",),
    "stages.runtimes._machine": ("stages.runtimes.support.machine",),
    "stages.runtimes._sidecars": ("stages.runtimes.sidecars.registry",),
    "stages.runtimes._timing": ("stages.runtimes.support.timing",),
    "stages.runtimes._worker": ("stages.runtimes.sidecars.worker",),
    "stages.structure": ("stages.analysis.plan_network", "stages.planning.sites"),
    "stages.student": ("stages.training.student",),
    "stages.subject": ("stages.analysis.prepare",),
    "stages.training": (
        "stages.training.schedule",
        "stages.training.device",
        "stages.training.task",
        "stages.training.loop",
    ),
    "stages.transforms.base": ("stages.analysis.prepared_model", "stages.solvers.problem"),
}
"""Old module to the modules that have its names now, below `paredown.`, the main one last; some old ones are still
there, for other names."""

NAMES = {
    "models.fake_quant.insert": "imitate_int8",
    "models.qdq.units": "quantizable_nodes",
    "models.resolution.takes": "computes_alike",
    "models.sparse.solver": "one_shot_pruner",
    "models.supernet.branches": "find_branches",
    "models.surgery.prune": "remove_channels",
    "stages.carry.carried": "compensated_weight",
    "stages.measure.portable": "portable_model",
    "stages.measure.scored": "scores_of",
    "stages.measure.stored": "stored_model",
    "stages.measure.write": "write_model",
    "stages.original.teacher": "load_teacher",
    "stages.structure.even_picks": "covering_picks",
    "stages.structure.merges": "is_merged",
    "stages.structure.under": "network_of_plan",
    "stages.subject.load_subject": "load_prepared_model",
    "stages.training.Task": "TrainingTask",
    "stages.training.home": "training_device",
    "stages.training.world": "rank_and_size",
    "stages.transforms.base.Form": "LayerForm",
    "stages.transforms.base.Subject": "PreparedModel",
}
"""Old name, with its old module, to what it is called now."""


def with_new_names(text: bytes, file: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The syntax tree of a file, its imports taken from where they are now, and `old -> new` for each that moved."""
    imports = _Imports()
    tree = ast.fix_missing_locations(imports.visit(ast.parse(text, filename=file)))
    return tree, tuple(dict.fromkeys(imports.moved))


def new_name(old: str) -> str:
    """Where a name is now, both with their modules; the same where it has not moved, or is nowhere."""
    module, _, name = old.removeprefix("paredown.").rpartition(".")
    name = NAMES.get(f"{module}.{name}", name)
    if _is_there(old):
        return old
    if (whole := MODULES.get(f"{module}.{name}")) is not None:  # a module that is imported from its package
        return f"paredown.{whole[-1]}"
    places = [f"paredown.{new}.{name}" for new in MODULES.get(module, ())]
    return next((place for place in places if _is_there(place)), old)


class _Imports(ast.NodeTransformer):
    """Rewrites `from old import name` and `import old as name`."""

    def __init__(self) -> None:
        self.moved: list[str] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.ImportFrom]:
        return [self._one(alias, node) for alias in node.names]

    def _one(self, alias: ast.alias, node: ast.ImportFrom) -> ast.ImportFrom:
        old = f"{node.module}.{alias.name}"
        new = old if node.level else self._new(old)
        if new == old:
            return ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
        module, _, name = new.rpartition(".")
        known_as = alias.asname or (alias.name if alias.name != name else None)
        return ast.copy_location(ast.ImportFrom(module, [ast.alias(name, known_as)], 0), node)

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            alias.name = self._new(alias.name) if alias.asname else alias.name
        return node

    def _new(self, old: str) -> str:
        new = new_name(old) if old.startswith("paredown.") else old
        self.moved += [f"{old} -> {new}"] if new != old else []
        return new


def _is_there(name: str) -> bool:
    """Whether it is a module, or something that a module has."""
    module, _, last = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), last) or importlib.util.find_spec(name) is not None
    except ImportError:
        return False
