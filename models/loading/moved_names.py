"""Names that plugins import and that have moved: for one version a user's file still finds them where they were.

To be deleted with the version after: this file, its test, and its call in `user_code`.
"""

import ast

_MODULES = {
    "models.blocks": "models.network.blocks",
    "models.conv_integer": "models.compression.conv_integer",
    "models.fake_quant": "models.compression.fake_quant",
    "models.fold": "models.network.batch_norm",
    "models.graph": "models.network.trace",
    "models.load": "models.loading.model",
    "models.memo": "models.network.weak_cache",
    "models.onnx_export": "models.onnx.export",
    "models.onnx_graph": "models.onnx.edit",
    "models.qdq": "models.compression.qdq",
    "models.resolution": "models.compression.resolution",
    "models.sparse": "models.compression.sparsity",
    "models.supernet": "models.compression.supernet",
    "models.surgery": "models.compression.channel_groups",
    "stages.discovery": "stages.plugins",
    "stages.evidence": "stages.products.evidence",
    "stages.linearise": "stages.solvers.linear_program",
    "stages.measure": "stages.measuring.accuracy",
    "stages.original": "stages.analysis.teacher",
    "stages.problem": "stages.solvers.problem",
    "stages.runtimes._inprocess": "stages.runtimes.support.in_process",
    "stages.runtimes._machine": "stages.runtimes.support.machine",
    "stages.runtimes._sidecars": "stages.runtimes.sidecars.registry",
    "stages.runtimes._timing": "stages.runtimes.support.timing",
    "stages.runtimes._worker": "stages.runtimes.sidecars.worker",
    "stages.student": "stages.training.student",
    "stages.subject": "stages.analysis.prepare",
}
"""Old module to new module, below `paredown.`."""

_SYMBOLS = {
    "models.data.Data": "models.data.dataset.Data",
    "models.data.DataSpec": "models.data.spec.DataSpec",
    "models.data.Split": "models.data.dataset.Split",
    "models.data.open_data": "models.data.opening.open_data",
    "models.fake_quant.insert": "models.compression.fake_quant.imitate_int8",
    **{
        f"models.graph.{name}": f"models.network.{module}.{name}"
        for module, names in {
            "layers": ("ChannelGroup", "Layer", "read_layers"),
            "nodes": ("FUSED", "PASSING", "attribute", "fused_output", "module_of", "operator", "source"),
        }.items()
        for name in names
    },
    "models.load.ModelSpec": "models.loading.spec.ModelSpec",
    "models.load.quiet_torchvision": "models.loading.libraries.quiet_torchvision",
    "models.qdq.FUSED": "models.onnx.edit.FUSED",
    **{
        f"models.qdq.{name}": f"models.compression.scales.{name}"
        for name in ("LEAST_STEP", "Range", "activation_scale", "range_of", "weight_scales")
    },
    "models.qdq.units": "models.compression.qdq.quantizable_nodes",
    "models.resolution.takes": "models.compression.resolution.computes_alike",
    "models.sparse.solver": "models.compression.sparse_reconstruction.one_shot_pruner",
    "models.spec.InputError": "models.errors.InputError",
    "models.spec.LimitError": "models.errors.LimitError",
    "models.spec.MachineError": "models.errors.MachineError",
    "models.spec.MissingError": "models.errors.MissingError",
    "models.spec.ParedownError": "models.errors.ParedownError",
    "models.supernet.branches": "models.compression.supernet.find_branches",
    "models.surgery.prune": "models.compression.channel_groups.remove_channels",
    "stages.base.Bound": "stages.limits.Bound",
    "stages.base.write_notes": "stages.products.product_files.write_notes",
    "stages.measure.portable": "stages.measuring.model_files.portable_model",
    "stages.measure.runtime_of": "stages.measuring.target_runtime.runtime_of",
    "stages.measure.stored": "stages.measuring.model_files.stored_model",
    "stages.measure.target_runtime": "stages.measuring.target_runtime.target_runtime",
    "stages.original.teacher": "stages.analysis.teacher.load_teacher",
    "stages.pinning.matched": "stages.transforms.layer_patterns.matched",
    "stages.structure.picks_of": "stages.analysis.plan_network.picks_of",
    "stages.structure.under": "stages.analysis.plan_network.network_of_plan",
    "stages.subject.load_subject": "stages.analysis.prepare.load_prepared_model",
    "stages.training.Schedule": "stages.training.schedule.Schedule",
    "stages.training.Task": "stages.training.task.TrainingTask",
    "stages.training.train": "stages.training.loop.train",
    "stages.training.home": "stages.training.device.training_device",
    "stages.training.world": "stages.training.device.rank_and_size",
    "stages.transforms.base.Choice": "stages.solvers.problem.Choice",
    "stages.transforms.base.Form": "stages.analysis.prepared_model.LayerForm",
    "stages.transforms.base.Subject": "stages.analysis.prepared_model.PreparedModel",
}
"""The same of single names that went elsewhere, or are called otherwise now; these come first."""

MODULES, SYMBOLS = (
    {f"paredown.{old}": f"paredown.{new}" for old, new in table.items()} for table in (_MODULES, _SYMBOLS)
)


def with_new_names(text: bytes, file: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The syntax tree of a file, its imports taken from where they are now, and `old -> new` for each that moved."""
    imports = _Imports()
    tree = ast.fix_missing_locations(imports.visit(ast.parse(text, filename=file)))
    return tree, tuple(dict.fromkeys(imports.moved))


class _Imports(ast.NodeTransformer):
    """Rewrites `from old import name` and `import old as name`."""

    def __init__(self) -> None:
        self.moved: list[str] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.ImportFrom]:
        return [self._one(f"{node.module}.{alias.name}", alias, node) for alias in node.names]

    def _one(self, old: str, alias: ast.alias, node: ast.ImportFrom) -> ast.ImportFrom:
        new = _new_name(old)
        if node.level or new == old:
            return ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
        self.moved.append(f"{old} -> {new}")
        module, _, name = new.rpartition(".")
        known_as = alias.asname or (alias.name if alias.name != name else None)
        return ast.copy_location(ast.ImportFrom(module, [ast.alias(name, known_as)], 0), node)

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.asname and alias.name in MODULES:
                self.moved.append(f"{alias.name} -> {MODULES[alias.name]}")
                alias.name = MODULES[alias.name]
        return node


def _new_name(old: str) -> str:
    """Of a name with its module; a module may be imported from its package as well."""
    module, _, name = old.rpartition(".")
    moved = f"{MODULES[module]}.{name}" if module in MODULES else MODULES.get(old, old)
    return SYMBOLS.get(old, moved)
