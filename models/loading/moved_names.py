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
    "models.files": ("models.files",),
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
    "stages.blocks.base": ("stages.blocks.base",),
    "stages.carry": ("models.compression.channel_compensation",),
    "stages.discovery": ("stages.plugins",),
    "stages.engines.base": ("stages.engines.base",),
    "stages.engines.own": ("stages.engines.own",),
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
    "stages.runtimes.base": ("stages.runtimes.base",),
    "stages.solvers.base": ("stages.solvers.problem", "stages.solvers.base"),
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
    "models.data.Data": "ImageData",
    "models.fake_quant.BiasQuant": "QuantizedBias",
    "models.fake_quant.SiluQuant": "QuantizedSilu",
    "models.fake_quant.insert": "imitate_int8",
    "models.fake_quant.observe": "observe_ranges",
    "models.files.resolve": "resolve_path",
    "models.graph.analyse": "analyse_network",
    "models.graph.attribute": "module_attribute",
    "models.graph.operator": "operator_name",
    "models.graph.source": "source_node",
    "models.graph.trace": "trace_module",
    "models.onnx_export.export": "export_onnx",
    "models.onnx_graph.consumers": "consumers_of_values",
    "models.onnx_graph.copy_of": "copy_of_model",
    "models.onnx_graph.load": "load_onnx",
    "models.onnx_graph.producers": "producers_of_values",
    "models.onnx_graph.save": "save_onnx",
    "models.onnx_graph.shapes": "value_shapes",
    "models.onnx_graph.weights": "constant_arrays",
    "models.qdq.quantize": "insert_qdq",
    "models.qdq.range_of": "range_of_scale",
    "models.qdq.units": "quantizable_nodes",
    "models.resolution.Shrink": "ShrinkImage",
    "models.resolution.shrink": "shrink_image",
    "models.resolution.takes": "computes_alike",
    "models.sparse.among_live_channels": "prune_live_channels",
    "models.sparse.as_rows": "weight_as_rows",
    "models.sparse.by_magnitude": "prune_by_magnitude",
    "models.sparse.from_rows": "weight_from_rows",
    "models.sparse.mask": "magnitude_mask",
    "models.sparse.n_of_m": "parsed_n_of_m",
    "models.sparse.solver": "one_shot_pruner",
    "models.supernet.Either": "JoinedBranches",
    "models.supernet.Instead": "Replacement",
    "models.supernet.attach": "attach_replacements",
    "models.supernet.branches": "find_branches",
    "models.supernet.pick": "pick_branch",
    "models.supernet.select": "select_branches",
    "models.supernet.select_onnx": "select_branches_onnx",
    "models.surgery.prune": "remove_channels",
    "stages.blocks.base.Residual": "ResidualBlock",
    "stages.blocks.base.name_of": "kernel_name",
    "stages.blocks.base.unit": "conv_unit",
    "stages.carry.carried": "compensated_weight",
    "stages.discovery.choices": "allowed_choices",
    "stages.discovery.load": "load_plugin",
    "stages.discovery.make": "make_plugin",
    "stages.discovery.missing": "missing_requirement",
    "stages.discovery.names": "plugin_names",
    "stages.discovery.requires": "plugin_requirements",
    "stages.discovery.sidecar": "plugin_sidecar",
    "stages.discovery.source": "plugin_file",
    "stages.discovery.summary": "plugin_summary",
    "stages.engines.base.Tuned": "TunedQuantization",
    "stages.engines.own.Own": "OwnCalibration",
    "stages.evidence.Latency": "LatencyEvidence",
    "stages.evidence.Scores": "AccuracyScores",
    "stages.linearise.Linear": "LinearProgram",
    "stages.measure.portable": "portable_model",
    "stages.measure.scored": "scores_of",
    "stages.measure.stored": "stored_model",
    "stages.measure.write": "write_model",
    "stages.original.teacher": "load_teacher",
    "stages.pinning.matched": "matched_layers",
    "stages.problem.Charge": "BorderCharge",
    "stages.problem.Factor": "CostFactor",
    "stages.problem.allowed": "allowed_candidates",
    "stages.problem.bounds": "limit_bounds",
    "stages.problem.cost": "plan_cost",
    "stages.problem.excess": "limit_excess",
    "stages.problem.exists": "site_exists",
    "stages.problem.holds": "holds_limits",
    "stages.problem.loss": "plan_loss",
    "stages.problem.reached": "largest_cost",
    "stages.problem.validate": "validate_problem",
    "stages.runtimes._inprocess.check": "check_onnx_file",
    "stages.runtimes._inprocess.chunks": "image_chunks",
    "stages.runtimes._inprocess.forward": "forward_chunks",
    "stages.runtimes._inprocess.naming": "naming_the_file",
    "stages.runtimes._machine.cores": "cpu_cores",
    "stages.runtimes._machine.cpu": "cpu_name",
    "stages.runtimes._machine.flags": "cpu_flags",
    "stages.runtimes._machine.parse": "parse_cpuinfo",
    "stages.runtimes._timing.turns": "turns_in_pairs",
    "stages.runtimes._worker.Running": "RunningProcess",
    "stages.runtimes._worker.Worker": "SidecarWorker",
    "stages.runtimes._worker.how": "how_it_died",
    "stages.runtimes.base.ratio": "latency_ratio",
    "stages.runtimes.base.summarize": "summarize_latency",
    "stages.solvers.base.Plan": "Choice",
    "stages.solvers.base.far": "is_far",
    "stages.solvers.base.sweep": "sweep_budgets",
    "stages.structure.even_picks": "covering_picks",
    "stages.structure.merges": "is_merged",
    "stages.structure.under": "network_of_plan",
    "stages.student.Lowered": "LoweredStudent",
    "stages.student.calibration": "calibration_batches",
    "stages.student.compressed": "load_compressed",
    "stages.student.surgery": "apply_plan",
    "stages.subject.load_subject": "load_prepared_model",
    "stages.training.Task": "TrainingTask",
    "stages.training.accuracy": "module_accuracy",
    "stages.training.home": "training_device",
    "stages.training.supervised": "supervised_loss",
    "stages.training.train": "train_network",
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
