"""The original, exported with batch norm folded and measured on the target: what everything is compared with."""

from typing import ClassVar

from pydantic import Field

from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.teacher import open_teacher
from paredown.stages.base import Stage, State
from paredown.stages.measuring.accuracy import scores_of
from paredown.stages.measuring.model_evidence import measure_evidence
from paredown.stages.measuring.model_files import write_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.product_files import write_notes
from paredown.stages.runtimes.base import Load


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


PLUGIN = Baseline
