"""The recovered network as one ONNX file, and how closely it agrees with the torch network that was trained."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from paredown.models.compression.sparsity import BLOCK
from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError, LimitError
from paredown.models.onnx.edit import zero_shares
from paredown.stages.analysis.teacher import load_weights
from paredown.stages.base import Stage, State
from paredown.stages.measuring.model_files import write_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.measuring.torch_parity import measure_parity, parity_note, too_far, too_few_alike
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.products.product_files import write_notes
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.training.student import LoweredStudent, load_compressed

FEW_ALIKE = 0.95
"""Share of equal answers under which a person is told, where the recipe asks for none."""
LOST = 0.01
"""Share of zeros that rounding to whole blocks may cost; in small layers one block is more."""


class Export(Stage):
    """Writes the artifact and measures its parity with torch on validation images.

    Where that is poor the run goes on to measure what there is, and ends with a missed limit.
    """

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "plan", "compressed", "recovered")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "exported"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")
    goes_on: ClassVar[bool] = True
    ADDED: ClassVar[frozenset[str]] = frozenset({"difference"})

    agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="least share of images with the same answer as torch; left out, under 0.95 are told and no limit",
    )
    difference: float = Field(
        default=2.0,
        gt=0,
        allow_inf_nan=False,
        description="most that the logits may differ from torch's, in times of what rounding alone makes",
    )
    images: int = Field(default=256, ge=1, description="validation images that are compared")

    def run(self, state: State) -> None:
        parity, missed = self._exported(state)
        if self.agreement is None:
            write_notes(state.out, [note] if (note := parity_note(parity)) else [])
        missed += [too_far(parity)] if self.agreement is None else [too_far(parity), too_few_alike(parity)]
        if line := "; ".join(filter(None, missed)):
            raise LimitError(line, keep=True)

    def rehearse(self, state: State) -> bool:
        """All of it, on a few images; a student that has not learnt yet agrees with its artifact less than others."""
        parity, missed = self._exported(state)
        if missed:
            raise LimitError("; ".join(missed))
        if not math.isfinite(parity.mean_difference):
            raise InputError(f"the artifact's logits are {parity.mean_difference} away from those of the torch network")
        return True

    def _exported(self, state: State) -> tuple[Parity, list[str]]:
        """Writes the artifact and its parity, and returns that with a line for every layer that lacks zeros."""
        data = state.open_data()
        state.progress("export", 0, 2)
        lowered = self._trained(state, data)
        ranges = dict(CalibratedRanges.load(state.product("recovered")).ranges)
        model = lowered.artifact(ranges)
        path = write_model(model, runtime_of(state), state.out, state.target.container)
        state.progress("export: parity", 1, 2)
        split = data.validation.take(self.images, state.seed)
        limit = FEW_ALIKE if self.agreement is None else self.agreement
        parity = measure_parity(lowered.imitation(ranges), path, data, split, state, limit, self.difference)
        parity.save(state.out)
        return parity, [*missing_zeros(zero_shares(model), Plan.load(state.product("plan")).layers)]

    def _trained(self, state: State, data: ImageData) -> LoweredStudent:
        """The folded student with its recovered weights, traced and exported anew."""
        module = load_compressed(state, data)
        folded = LoweredStudent.fold(module, state)
        load_weights(folded, state.product("recovered") / "weights.safetensors")
        return LoweredStudent.of(folded, state)


def missing_zeros(shares: Mapping[str, float], planned: Iterable[PlannedLayer]) -> Iterator[str]:
    """A line for every layer with fewer zeros than its plan says: the file counts, not what was trained.

    Layer to its share of zeros and the plan's layers are matched by name; additions have no weights.
    """
    for layer in planned:
        blocks = max(1, layer.kept_in * layer.kept_out // BLOCK)
        if layer.sparsity and shares[layer.name] < layer.sparsity - max(LOST, 1 / blocks):
            zeros = f"{100 * shares[layer.name]:.1f} % zeros where the plan has {100 * layer.sparsity:.1f} %"
            yield f"export: the layer {layer.name} has {zeros}"


PLUGIN = Export
