"""The original, exported with batch norm folded and measured on the target: what everything is compared with."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError
from paredown.models.network.answers import refuse_answers_that_depend_on_the_batch
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.teacher import open_teacher
from paredown.stages.base import Stage, State
from paredown.stages.measuring.accuracy import Answers, accuracy_scores, answers_of, finite_answers, logits_of
from paredown.stages.measuring.doubts import doubts, is_weak
from paredown.stages.measuring.model_evidence import measure_alone
from paredown.stages.measuring.model_files import stored_model, write_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.product_files import write_notes
from paredown.stages.runtimes.base import Load

PRECISION = 0.1
"""The share of the largest logit by which a runtime may be off: some compute in bfloat16 where the machine can."""
TRAINING_IMAGES = 256
"""On which a weak original is tried, to see whether it once was better."""


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
        answers = finite_answers(path, state, data)
        processes = 1 if state.few else None
        measure_alone(path, state, accuracy_scores(answers), times, processes).save(state.out)
        write_notes(state.out, [*data.notes, *teacher.notes, *_doubts(path, answers, data, state)])

    def rehearse(self, state: State) -> bool:
        data = state.open_data()
        teacher = open_teacher(state, data).module
        refuse_answers_that_depend_on_the_batch(teacher, torch.from_numpy(next(data.batches(data.validation, 8))[0]))
        self.model_copy(update={"rounds": 1, "runs": 1}).run(state)
        check_agreement(teacher, stored_model(state.out), data, state)
        return True


def _doubts(model: Path, answers: Mapping[str, Answers], data: ImageData, state: State) -> list[str]:
    """What is odd about the original's answers. Only where they are weak is it asked what it answers in training."""
    training = None
    if any(is_weak(one) for one in answers.values()):
        training = answers_of(model, data, data.train.take(TRAINING_IMAGES, state.seed), state)
    return [
        f"the original: {line}" for split, one in answers.items() for line in doubts(one, data.classes, split, training)
    ]


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
