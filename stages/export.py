"""The recovered network as one ONNX file, and how closely it agrees with the torch network that was trained."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from paredown.models.compression.sparsity import BLOCK
from paredown.models.data.dataset import ImageData
from paredown.models.errors import InputError, LimitError
from paredown.models.onnx.edit import zero_shares
from paredown.models.quantity import told_apart
from paredown.stages.analysis.teacher import load_weights
from paredown.stages.base import Stage, State
from paredown.stages.measuring.accuracy import Answers, logits_of
from paredown.stages.measuring.model_files import write_model
from paredown.stages.measuring.proportions import wilson_ends
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.training.student import LoweredStudent, load_compressed

LOST = 0.01
"""Share of zeros that rounding to whole blocks may cost; in small layers one block is more."""


class Export(Stage):
    """Writes the artifact and measures its parity with torch on validation images."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile", "plan", "compressed", "recovered")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "exported"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    agreement: float = Field(
        default=0.95, ge=0, le=1, description="least share of images with the same answer as torch"
    )
    images: int = Field(default=256, ge=1, description="validation images that are compared")

    def run(self, state: State) -> None:
        data = state.open_data()
        state.progress("export", 0, 2)
        lowered = self._trained(state, data)
        ranges = dict(CalibratedRanges.load(state.product("recovered")).ranges)
        model = lowered.artifact(ranges)
        path = write_model(model, runtime_of(state), state.out, state.target.container)
        state.progress("export: parity", 1, 2)
        split = data.validation.take(self.images, state.seed)
        graph = lowered.imitation(ranges)
        with torch.inference_mode():
            expected = np.concatenate([graph(torch.from_numpy(x)).numpy() for x, _ in data.batches(split, 32)])
        got = logits_of(path, data, split, state)
        trained, artifact = Answers(expected, split.labels), Answers(got, split.labels)
        for whose, answers in (("the trained network", trained), ("the artifact", artifact)):
            if fault := answers.not_finite("validation"):
                raise LimitError(f"parity: {whose}: {fault}")
        agreement = artifact.agreement(trained)
        parity = Parity(
            agreement=agreement,
            agreement_ends=wilson_ends(agreement, len(split)),
            mean_difference=float(np.abs(got - expected).mean()),
            logit_spread=float(expected.std()),
            images=len(split),
            limit=self.agreement,
        )
        parity.save(state.out)
        check_zeros(zero_shares(model), Plan.load(state.product("plan")).layers)
        if parity.agreement < self.agreement:
            share, limit = told_apart(parity.agreement, self.agreement, lambda value, digits: f"{value:.{digits - 1}f}")
            agreed = f"{share} of {len(split)} images"
            raise LimitError(f"parity: artifact and torch agree on {agreed}; the limit is {limit}", keep=True)

    def rehearse(self, state: State) -> bool:
        """All of it, on a few images; a student that has not learnt yet agrees with its artifact less than others."""
        self.model_copy(update={"agreement": 0.0}).run(state)
        parity = Parity.load(state.out)
        if not math.isfinite(parity.mean_difference):
            raise InputError(f"the artifact's logits are {parity.mean_difference} away from those of the torch network")
        return True

    def _trained(self, state: State, data: ImageData) -> LoweredStudent:
        """The folded student with its recovered weights, traced and exported anew."""
        module = load_compressed(state, data)
        folded = LoweredStudent.fold(module, state)
        load_weights(folded, state.product("recovered") / "weights.safetensors")
        return LoweredStudent.of(folded, state)


def check_zeros(shares: Mapping[str, float], planned: Iterable[PlannedLayer]) -> None:
    """Raises LimitError where a layer has fewer zeros than its plan says: the file counts, not what was trained.

    Layer to its share of zeros and the plan's layers are matched by name; additions have no weights.
    """
    for layer in planned:
        blocks = max(1, layer.kept_in * layer.kept_out // BLOCK)
        if layer.sparsity and shares[layer.name] < layer.sparsity - max(LOST, 1 / blocks):
            zeros = f"{100 * shares[layer.name]:.1f} % zeros where the plan has {100 * layer.sparsity:.1f} %"
            raise LimitError(f"export: the layer {layer.name} has {zeros}", keep=True)


PLUGIN = Export
