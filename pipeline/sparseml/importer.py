"""Turns a SparseML recipe into a paredown recipe that prunes, quantizes and trains as that one says."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from paredown.models.errors import InputError
from paredown.pipeline.recipe.first_recipe import FirstRecipeLines, write_recipe
from paredown.pipeline.sparseml.layer_pins import EVERY, LayerPin
from paredown.pipeline.sparseml.modifiers import SparsemlModifier, read_modifiers
from paredown.pipeline.sparseml.precision import imported_quantization
from paredown.pipeline.sparseml.pruning import ImportedPruning, imported_pruning
from paredown.pipeline.sparseml.recovery import ImportedTraining, imported_training

DENSE = "dense"

_LOST = {
    "init_sparsity": "sparsity grows from dense",
    "update_frequency": "recover sets its own steps",
    "inter_func": "sparsity grows by the cubic schedule",
    "scheduler_args": "sparsity grows by the cubic schedule",
    "leave_enabled": "masks hold to the end",
    "constant_logging": "nothing to log",
    "param_groups": "it counts for all parameters",
    "final_lr": "the rate falls to 0 as a cosine, after warming up for a tenth",
    "lr_func": "the rate falls as a cosine, after warming up for a tenth",
    "cycle_epochs": "the rate does not cycle",
    "distill_output_keys": "a classifier has one output",
    "teacher_input_keys": "a classifier has one input",
    "disable_quantization_observer_epoch": "ranges are found before the int8 phase and stay",
    "freeze_bn_stats_epoch": "batch norms are folded before the int8 phase",
    "model_fuse_fn_name": "batch norms and activations are always folded",
    "model_fuse_fn_kwargs": "batch norms and activations are always folded",
    "num_calibration_steps": "calibration has its own split, data.splits.calibration",
    "post_oneshot_calibration": "calibration has its own split, data.splits.calibration",
    "strict": "a name that meets no layer is told by paredown check",
    "reduce_range": "weights take 7 bits where the processor needs it",
    "tensorrt": "the form of int8 is the runtime's",
    "quantize_embeddings": "image classifiers have none",
    "quantize_embedding_activations": "image classifiers have none",
    "quantize_linear_activations": "activations and weights go together",
    "quantize_conv_activations": "activations and weights go together",
    "exclude_batchnorm": "batch norms are folded",
    "block_size": "obs takes its own",
    "dampening_frac": "obs takes its own",
    "sequential_update": "obs takes its own",
    "preserve_sparsity_mask": "the level counts, not the zeros that were there",
    "projection": "answers are compared as they are",
    "projection_args": "answers are compared as they are",
    "transforms": "answers are softened by a softmax",
    "offload_layer_output": "nothing is offloaded",
}
"""Options that change nothing that a paredown recipe could say, and what is done instead."""

_SAME = {"inter_func": "cubic", "leave_enabled": True, "constant_logging": False, "final_lr": 0, "lr_func": "cosine"}
"""Values with which they say what paredown does anyway."""

_GZIP = "container: gzip  # onnxruntime turns zeros into bytes only, and only so; runtime: deepsparse into time"

_SGD = "SparseML leaves the optimizer to you; paredown's is AdamW, for which 0.001 is a usual rate"


def import_recipe(
    source: Path, model: str, data: str, file: Path, image_size: int | None = None, held: float | None = None
) -> tuple[str, ...]:
    """Writes `file`, a recipe for `model` and `data`, and returns a line for everything that has no counterpart.

    Raises InputError with file and line for what cannot be imported without changing what the recipe means.
    """
    contents, notes = recipe_contents(read_modifiers(source), held)
    write_recipe(model, data, file, image_size, contents)
    return notes


def recipe_contents(
    modifiers: Sequence[SparsemlModifier], held: float | None = None
) -> tuple[FirstRecipeLines, tuple[str, ...]]:
    """The lines of the paredown recipe, and a note for everything that has no counterpart.

    `held` is the sparsity that ConstantPruningModifiers keep.
    """
    pruned, notes = imported_pruning(modifiers, held)
    precisions, more = imported_quantization(modifiers)
    trained = imported_training(modifiers)
    file = modifiers[0].document.file
    if pruned is None and not precisions:
        raise InputError(f"{file}:1: the recipe neither prunes nor quantizes: nothing to import")
    notes = [*_lost(modifiers), *notes, *more, *trained.notes]
    stages = {"profile": list(_profile(pruned, precisions)), "recover": list(_recover(trained))}
    target = [_GZIP] if pruned else []
    return FirstRecipeLines(list(_heading(file, notes)), _limits(precisions), stages, target), tuple(map(_line, notes))


def _lost(modifiers: Sequence[SparsemlModifier]) -> Iterator[str]:
    for modifier in modifiers:
        for key, instead in _LOST.items():
            if modifier.has(key) and modifier.get(key) != _SAME.get(key):
                yield f"{modifier.where(key)}: {modifier.name}.{modifier.spelled(key)}: {instead}"


def _heading(file: Path, notes: Sequence[str]) -> Iterator[str]:
    yield f"Made from the SparseML recipe {_line(file.name)}; lines named below are that file's."
    if notes:
        yield "What has no counterpart here:"
        yield from (f"  line {_line(note.removeprefix(f'{file}:'))}" for note in notes)


def _limits(precisions: Sequence[LayerPin]) -> list[str]:
    size = "size: 0.6x  # int8 takes a quarter of fp32" if precisions else "size: 1.0x  # zeros can be packed"
    return [size, "accuracy_drop: 1.0  # points; SparseML's recipe promises none", "# latency_p50: 0.5x"]


def _profile(pruned: ImportedPruning | None, precisions: Sequence[LayerPin]) -> Iterator[str]:
    yield "transforms:"
    if pruned is not None:
        levels = sorted({pin.value for pin in pruned.pins if isinstance(pin.value, float) and pin.value > 0})
        yield "  sparsify:"
        yield f"    levels: [{', '.join(map(_scalar, levels))}]"
        yield f"    patterns: [{json.dumps(pruned.pattern)}]"
        pins = [*pruned.pins, *_others(pruned.pins)]
        yield f"    method: {pruned.method}"
        yield from (f"    {line}" for line in _pinned(pins, pruned.pattern if ":" in pruned.pattern else ""))
    if precisions:
        yield "  quantize:"
        yield from (f"    {line}" for line in _pinned(precisions))


def _others(pins: Sequence[LayerPin]) -> list[LayerPin]:
    """All layers that the recipe does not name stay as they are."""
    return (
        []
        if any(pin.layers == EVERY for pin in pins)
        else [LayerPin(EVERY, True, DENSE, "no other layer is pruned", "")]
    )


def _pinned(pins: Sequence[LayerPin], instead: str = "") -> Iterator[str]:
    """A line per pin; `instead` is what stands for every level, as an N:M pattern says it all."""
    yield "layers:  # the first that meets a layer's whole name counts"
    for pin in pins:
        level = json.dumps(instead) if instead and isinstance(pin.value, float) else _scalar(pin.value)
        value = DENSE if pin.value == 0 else level
        yield f"  {json.dumps(pin.layers, ensure_ascii=False)}: {value}  # {_line(pin.origin)}"


def _recover(trained: ImportedTraining) -> Iterator[str]:
    """The stage's options, those of a phase under its name."""
    phase = ""
    for name, given in trained.options.items():
        head, _, key = name.rpartition(".")
        if head != phase and head:
            yield f"{head}:"
        phase = head
        if key == "lr" and given.value > 0.01:
            yield f"{'  ' * bool(head)}# {_SGD}"
        yield f"{'  ' * bool(head)}{key}: {_scalar(given.value)}  # {_line(given.origin)}"
    if "quantize.epochs" not in trained.options:
        yield "quantize: {epochs: 0}  # nothing is quantized"


def _scalar(value: float | str) -> str:
    """A number as YAML reads it: 1.0e-05, where Python writes 1e-05, which is text there."""
    return str(yaml.safe_dump(value).split()[0])


def _line(text: str) -> str:
    """Text as one line of a comment."""
    return " ".join(word for word in text.split()).encode("ascii", "backslashreplace").decode()
