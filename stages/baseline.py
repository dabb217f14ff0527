"""The original, exported with batch norm folded and measured on the target: what everything is compared with."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.teacher import open_teacher
from paredown.stages.base import Stage, State
from paredown.stages.measuring.accuracy import logits_of, scores_of
from paredown.stages.measuring.model_evidence import measure_evidence
from paredown.stages.measuring.model_files import stored_model, write_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.product_files import write_notes
from paredown.stages.runtimes.base import Load

PRECISION = 0.1
"""The share of the largest logit by which a runtime may be off: some compute in bfloat16 where the machine can."""


class Baseline(Stage):
    """Exports the original as fp32 ONNX and measures latency, size, peak memory and accuracy."""

    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ("original",)
    gives: ClassVar[str] = "baseline"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    rounds: int = Field(5, ge=1, description="fresh sessions to time")
    runs: int = Field(20, ge=1, description="timed inferences per session")

    def run(self, state: State) -> None:
        data = state.open_data()
        shape = state.image_shape
        state.progress("baseline: export", 0, 3)
        runtime = runtime_of(state)
        teacher = open_teacher(state, data)
        model = export_onnx(fold_batch_norm(teacher.module, shape), shape, state.target.batch)
        path = write_model(model, runtime, state.out)
        state.progress("baseline: latency", 1, 3)
        times = runtime.latency([path], Load.of(state.target), self.rounds, self.runs)[0]
        state.progress("baseline: accuracy and memory", 2, 3)
        measure_evidence(path, state, scores_of(path, state, data), times).save(state.out)
        write_notes(state.out, [*data.notes, *teacher.notes])

    def rehearse(self, state: State) -> bool:
        self.model_copy(update={"rounds": 1, "runs": 1}).run(state)
        data = state.open_data()
        check_agreement(open_teacher(state, data).module, stored_model(state.out), data, state)
        return True


def check_agreement(module: nn.Module, file: Path, data: ImageData, state: State) -> None:
    """Raises InputError where a model file answers otherwise on the validation images than the module that it was
    exported from: by more than the precision that a runtime may choose explains."""
    with torch.inference_mode():
        expected = np.concatenate(
            [module(torch.from_numpy(images)).numpy() for images, _ in data.batches(data.validation, 32)]
        )
    off = np.abs(logits_of(file, data, data.validation, state) - expected).max()
    most = PRECISION * np.abs(expected).max()
    if not off <= most:
        raise InputError(f"exported, its logits are up to {off:.3g} away from those of the module; allowed: {most:.3g}")


PLUGIN = Baseline
