"""The proof: the finished artifact, run in turns with the original on the target, against every limit."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from paredown.models.data.dataset import ImageData
from paredown.models.errors import LimitError
from paredown.models.files import digest_file
from paredown.models.onnx.edit import load_onnx, save_onnx, zero_shares
from paredown.models.onnx.metadata import embed_metadata
from paredown.stages.base import Stage, State
from paredown.stages.limits import Bound, Limits
from paredown.stages.measuring.accuracy import (
    Answers,
    FileAnswers,
    accuracy_scores,
    answers_by_split,
    finite_answers,
    not_finite,
)
from paredown.stages.measuring.embedded_facts import embedded_facts, input_spec, package_versions, split_sizes
from paredown.stages.measuring.limit_checks import missed_limits, other_caches_checks
from paredown.stages.measuring.model_evidence import (
    Measurer,
    Rounds,
    compare_on_runtimes,
    compare_with_other_caches,
    measured_in_pairs,
)
from paredown.stages.measuring.model_files import MODEL, portable_model, stored_model
from paredown.stages.measuring.paired_ratio import PairedRatio
from paredown.stages.measuring.proof import Proof, measure_pair
from paredown.stages.products.documents import plain_data
from paredown.stages.products.embedded import EmbeddedFacts
from paredown.stages.products.evidence import Comparison
from paredown.stages.products.interval import CONFIDENCE, Interval
from paredown.stages.products.manifest import (
    DataRecord,
    Manifest,
    ModelOrigin,
    OutputRecord,
    TargetRecord,
)
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan

SHARE = 3
"""Of the rounds one in so many is spent with the other caches, which no limit is about."""
EXTENSIONS = 3
"""Times that latency is measured at most."""


class Verify(Stage):
    """Measures accuracy on test, latency, size and memory of the artifact, and writes its manifest."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "plan", "exported")
    uses: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str] = "artifact"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "compare", "limits", "seed", "recipe")

    rounds: int = Field(
        default=27,
        ge=1,
        description="fresh pairs of sessions to time; up to three times as many where p50 is near its limit",
    )
    runs: int = Field(default=20, ge=1, description="timed inferences per session")

    def run(self, state: State) -> None:
        data = state.open_data()
        baseline, exported = state.product("baseline"), state.product("exported")
        state.progress("verify: accuracy", 0, 4)
        answers = [finite_answers(stored_model(baseline), state, data), _artifact_answers(state, data)]
        scores = [accuracy_scores(one) for one in answers]
        plan, parity = Plan.load(state.product("plan")), Parity.load(exported)
        _finish(state, embedded_facts(state, data, plan.choice, parity, *scores))
        pair = [stored_model(baseline), stored_model(state.out)]
        state.progress("verify: latency", 1, 4)
        measurer = Measurer.of(state, state.limits.confidence or CONFIDENCE)
        times = self._times(state, pair, measurer)
        other = compare_with_other_caches(measurer, pair, -(-self.rounds // SHARE), self.runs)
        state.progress("verify: other runtimes", 2, 4)
        portable = [portable_model(baseline), portable_model(state.out)]
        others = compare_on_runtimes(state, portable, self.rounds, self.runs, measurer.confidence)
        state.progress("verify: memory", 3, 4)
        proof = measure_pair(measurer, pair, answers, times, processes=1 if state.few else None)
        manifest = _manifest(state, data, plan, parity, proof, others)
        if other:
            manifest = _with_other_caches(manifest, *other)
        manifest.save(state.out)
        if faults := [*filter(None, [not_finite(answers[1])]), *missed_limits(manifest.checks)]:
            raise LimitError("; ".join(faults), keep=True)

    def rehearse(self, state: State) -> bool:
        self.model_copy(update={"rounds": 2, "runs": 2}).run(state)
        return True

    def _times(self, state: State, pair: Sequence[Path], measurer: Measurer) -> list[Rounds]:
        """Of both models; where `rounds` leave open whether p50 holds its limit, of two or three times as many."""
        runtime, times = measurer.runtime, list[Rounds]([[], []])
        for extension in range(EXTENSIONS):
            seed = extension * self.rounds
            more = runtime.latency(pair, measurer.load, self.rounds, self.runs, seed)
            times = [had + got for had, got in zip(times, more, strict=True)]
            if is_clear(state.limits, times):
                break
        return times


def is_clear(limits: Limits, times: Sequence[Rounds]) -> bool:
    """Whether the interval that a limit on p50 is compared with lies on one side of it; with `limits.confidence`, which
    asks for the interval's end, also that of p95."""
    pair = measured_in_pairs(times, limits.confidence or CONFIDENCE)
    within = [_is_within(limits.latency_p50, pair.p50, pair.new_p50)]
    within += [_is_within(limits.latency_p95, pair.p95, pair.absolute(95))] if limits.confidence else []
    return not any(within)


def _is_within(bound: Bound | None, ratio: Interval, own: Interval) -> bool:
    """Whether a limit lies within the interval of the ratio, where it is a factor, else of the artifact's own ms."""
    return bound is not None and (ratio if bound.unit == "x" else own).holds(bound.value)


def _artifact_answers(state: State, data: ImageData) -> dict[str, Answers]:
    """What the artifact answers, by split."""
    exported = stored_model(state.product("exported"))
    return answers_by_split(exported, state, data, ("validation", "test"))


def _finish(state: State, facts: EmbeddedFacts) -> None:
    """Writes the files that ship: those of the export, which say of themselves what they are."""
    exported = state.product("exported")
    for file in sorted({stored_model(exported), portable_model(exported)}):
        model = load_onnx(file)
        embed_metadata(model, plain_data(facts))
        save_onnx(model, state.out / file.name)


def _manifest(
    state: State, data: ImageData, plan: Plan, parity: Parity, proof: Proof, others: Sequence[Comparison]
) -> Manifest:
    shipped = {stored_model(state.out), portable_model(state.out)}
    return Manifest(
        checks=proof.checks(state.limits),
        artifact=proof.after,
        baseline=proof.before,
        ratios=proof.ratios,
        parity=parity,
        compare=tuple(others),
        confidence=proof.confidence,
        accuracy_change=proof.accuracy_change,
        sha256={
            **{file.name: digest_file(file) for file in shipped},
            f"baseline/{MODEL}": digest_file(state.product("baseline") / MODEL),
        },
        paredown=metadata.version("paredown"),
        recipe=state.recipe,
        input=input_spec(state, data),
        output=_output(state, data),
        model=ModelOrigin(**state.model.model_dump(mode="json")),
        target=TargetRecord(**dict(state.target)),
        limits=state.limits.model_dump(mode="json"),
        seed=state.seed,
        plan=plan.choice,
        quantization=plan.quantization,
        zeros=_zeros(state, plan),
        versions=package_versions(),
        data=DataRecord(
            source=state.data.source,
            fingerprint=data.fingerprint,
            classes=tuple(data.classes),
            licence=data.licence,
            images=split_sizes(data),
            spec=state.data.model_dump(mode="json"),
        ),
    )


def _with_other_caches(manifest: Manifest, timed: Comparison, ratios: PairedRatio) -> Manifest:
    """With the latencies that no limit is about beside those that the limits are about."""
    p50, p95, *rest = manifest.checks
    return replace(manifest, checks=(p50, p95, *other_caches_checks(timed, ratios), *rest), other_caches=timed)


def _output(state: State, data: ImageData) -> OutputRecord:
    """What the shipped file answers."""
    output = FileAnswers.read(stored_model(state.out), data.classes).output
    return OutputRecord(output.name, output.kind, output.sizes)


def _zeros(state: State, plan: Plan) -> dict[str, float]:
    """Sparse layer of the plan to the share of zeros in its weights in the artifact."""
    shares = zero_shares(load_onnx(portable_model(state.out)))
    return {layer.name: shares[layer.name] for layer in plan.layers if layer.sparsity}


PLUGIN = Verify
