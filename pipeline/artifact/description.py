"""What a model is, as data and in words: of any ONNX file, and more of those that say it of themselves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paredown.models.data.splits import SPLITS
from paredown.models.errors import InputError, first_line
from paredown.models.printable import printable
from paredown.pipeline.artifact.artifact import Artifact
from paredown.stages.measuring.proportions import accuracy_ends, wilson_ends
from paredown.stages.products.documents import plain_data
from paredown.stages.products.embedded import AccuracyRecord, EmbeddedFacts
from paredown.stages.products.interval import CONFIDENCE
from paredown.stages.products.manifest import Manifest

if TYPE_CHECKING:
    from onnx import ModelProto

    from paredown.models.onnx.facts import ModelFacts

Fact = tuple[str, str]
MOST, DIGITS = 8, 16
"""Names in a list, and digits of a recipe's digest, that people are shown."""
_COUNTABLE = 2**53
"""Images that nobody has: a file may say any number."""


def readable_facts(artifact: Artifact) -> "ModelFacts":
    """What the file holds, without running it; whatever a strange file breaks there is one InputError line."""
    from paredown.models.onnx.facts import model_facts

    try:
        return model_facts(artifact.file)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{artifact.file}: its graph cannot be understood: {first_line(error)}") from error


def description_data(artifact: Artifact, facts: "ModelFacts") -> dict[str, Any]:
    """All that file and manifest say, as plain data; `essentials` and `evidence` are null where there are none."""
    graph = artifact.model.graph
    return {
        "file": str(artifact.file),
        "sha256": artifact.sha256,
        "bytes": facts.bytes,
        "opset": facts.opset,
        "inputs": _inputs(artifact.model),
        "outputs": [_value(one) for one in graph.output],
        "answers": _answers(artifact),
        "parameters": facts.parameters,
        "macs": facts.macs,
        "ops": dict(facts.ops),
        "unquantized": [str(layer) for layer in facts.unquantized],
        "made_by_paredown": artifact.facts is not None,
        "essentials": artifact.facts and plain_data(artifact.facts),
        "evidence": artifact.manifest and _evidence(artifact.manifest),
        "warnings": list(artifact.warnings),
    }


def description_lines(artifact: Artifact, facts: "ModelFacts") -> Iterator[Fact]:
    """(label, words), the most important first."""
    yield "file", f"{artifact.file}, {facts.bytes:,} bytes"
    yield "sha256", artifact.sha256
    if artifact.facts is None:
        ours = artifact.model.producer_name == "paredown"
        yield (
            "made by",
            "paredown, but it is no artifact: it says nothing of itself" if ours else "not made by paredown",
        )
        yield "inputs", _listed(_inputs(artifact.model), "; ")
        yield "outputs", _listed([_value(one) for one in artifact.model.graph.output], "; ")
    else:
        yield from _facts(artifact.facts)
    yield "answers", _answers(artifact)
    yield "graph", f"opset {facts.opset}, {facts.parameters:,} parameters, {_macs(facts)}"
    yield "operators", _counts(facts.ops)
    yield from _precision(facts)


def _precision(facts: "ModelFacts") -> Iterator[Fact]:
    """Of files with int8: how much of it onnxruntime computes with integers here, and what not."""
    able = [layer for layer in facts.layers if layer.precision]
    left = facts.unquantized
    if len(left) < len(able) or any(layer.why for layer in left):
        words = f"{len(able) - len(left)} of {len(able)} layers as onnxruntime computes them on this CPU"
        yield "int8", words + (f"; in float: {_listed([str(layer) for layer in left], ', ')}" if left else "")


def _answers(artifact: Artifact) -> str:
    """Which output holds a score per class, by the rules of the gate, or why none does; the classes of a file that does
    not name them may be any number above one."""
    from paredown.models.onnx.answers import listed_outputs, outputs_of

    outputs, classes = outputs_of(artifact.model), len(artifact.facts.classes) if artifact.facts else None
    fitting = [one for one in outputs if not one.misfit(classes or None)]
    if not fitting:
        reasons = (f"{one.name!r}: {one.misfit(classes or None)}" for one in outputs)
        return f"no output holds one score per class: {_listed([*reasons], '; ')}"
    if fitting == [*outputs[:1]]:
        return f"{fitting[0]}: one score per class"
    return f"one of {listed_outputs(fitting)}; accuracy and parity of a gate need the key `output`"


def _evidence(manifest: Manifest) -> dict[str, Any]:
    """The part of a manifest that says how good the artifact is, and on what it was measured."""
    measured, latency = manifest.artifact, manifest.artifact.latency
    spread = latency and {"spread": latency.spread, "runs": latency.runs, "rounds": latency.rounds}
    whole = {"confidence": manifest.confidence, "accuracy_change": plain_data(manifest.accuracy_change)}
    on = {"latency": spread, "runtime": measured.runtime, "machine": plain_data(measured.machine)}
    return {"checks": plain_data(manifest.checks), "artifact": on, **whole, "sha256": plain_data(manifest.sha256)}


def _facts(facts: EmbeddedFacts) -> Iterator[Fact]:
    confidence = _confidence(facts.limits)
    weights = f", weights {facts.model['weights']}" if "weights" in facts.model else ""
    source = facts.model.get("source", "a model not told")
    maker = f"paredown {facts.versions.get('paredown', '')}".rstrip()
    yield "made by", f"{maker}, from {source}{weights}"
    if facts.recipe:
        yield "recipe", f"{facts.recipe.get('name', '')}, sha256 {facts.recipe.get('sha256', '')[:DIGITS]}"
    if facts.input:
        yield "input", str(facts.input)
    yield "classes", f"{len(facts.classes)}: {_listed(facts.classes, ', ')}"
    for transform, picked in facts.plan.items():
        yield transform, _counts({f"{name} at": len(places) for name, places in picked.items()})
    yield "made for", _target(facts.target)
    yield "limits", ", ".join(f"{name} {_number(value)}" for name, value in facts.limits.items()) or "none told"
    yield "data", _data(facts)
    if facts.accuracy:
        yield "accuracy", _accuracy(facts.accuracy, confidence)
    if "agreement" in facts.parity:
        yield "parity", f"same answer as torch on {_agreement(facts.parity, confidence)} of validation images"
    if facts.accuracy:
        yield "in brackets", f"{100 * confidence:g} % intervals, from the number of images"


def _target(target: Mapping[str, str | int]) -> str:
    """The version names the runtime too."""
    others = [f"{name} {target[name]}" for name in ("threads", "batch", "container") if name in target]
    return ", ".join([str(target.get("version") or target.get("runtime") or "a runtime not told"), *others])


def _data(facts: EmbeddedFacts) -> str:
    images = ", ".join(f"{facts.images[split]} {split}" for split in SPLITS if split in facts.images)
    licence = facts.data.get("licence") or "not told"
    return f"{facts.data.get('source', 'not told')}, licence: {licence}, images: {images or 'not told'}"


def _confidence(limits: Mapping[str, str | float]) -> float:
    """That of the recipe, which is the manifest's too, where the file's limits have one that can be."""
    told = limits.get("confidence")
    return told if isinstance(told, float) and 0 < told < 1 else CONFIDENCE


def _accuracy(record: AccuracyRecord, confidence: float) -> str:
    """Of original and artifact, split by split."""
    splits = sorted(record.before.keys() & record.after.keys() & record.images.keys())
    return "; ".join(
        f"{name} {_points(record.before[name], record.images[name], confidence)} -> "
        f"{_points(record.after[name], record.images[name], confidence)} % of {record.images[name]} images"
        for name in splits
    )


def _points(points: float, images: int, confidence: float) -> str:
    """With its interval, where the file's numbers can be an accuracy: anybody may have written them."""
    if not (0 <= points <= 100 and 0 < images < _COUNTABLE):
        return f"{points:.2f}"
    low, high = accuracy_ends(points, images, confidence)
    return f"{points:.2f} ({low:.2f} to {high:.2f})"


def _agreement(parity: Mapping[str, float], confidence: float) -> str:
    share, images = parity["agreement"], parity.get("images", 0)
    if not (0 <= share <= 1 and 0 < images < _COUNTABLE):
        return f"{100 * share:.2f} %"
    low, high = wilson_ends(share, int(images), confidence)
    return f"{100 * share:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _macs(facts: "ModelFacts") -> str:
    return "multiply-adds not known" if facts.macs is None else f"{facts.macs / 1e6:,.1f} million multiply-adds"


def _counts(numbers: Mapping[str, int]) -> str:
    return _listed([f"{name} {count}" for name, count in Counter(numbers).most_common()], ", ")


def _listed(words: Sequence[str], between: str) -> str:
    return between.join(words[:MOST]) + (f"{between}and {len(words) - MOST} more" if len(words) > MOST else "")


def _inputs(model: "ModelProto") -> list[str]:
    """Without the constants that old files list among them."""
    constants = {one.name for one in model.graph.initializer}
    return [_value(one) for one in model.graph.input if one.name not in constants]


def _value(value: Any) -> str:
    """`x: 1 x 3 x 224 x 224`; sizes that are not fixed are names or ?."""
    if not value.type.HasField("tensor_type"):
        return f"{value.name}: {str(value.type.WhichOneof('value') or 'of no known type').removesuffix('_type')}"
    sizes = value.type.tensor_type.shape.dim
    return f"{value.name}: {' x '.join(str(size.dim_value or size.dim_param or '?') for size in sizes)}"


def evidence_lines(manifest: Manifest) -> Iterator[Fact]:
    """On what the evidence rests."""
    measured = manifest.artifact
    yield "measured", ", ".join([f"on {measured.runtime}", *(f"{k} {v}" for k, v in measured.machine.items())])
    if timed := measured.latency:
        spread = f"their p50 spreads over {timed.spread:.3g} ms"
        yield "latency", f"{timed.runs} runs in {timed.rounds} rounds, in turns with the original; {spread}"
    if measured.peak_memory_ends:
        yield "intervals", f"{100 * manifest.confidence:g} %, in brackets; sizes are exact"
    for check in manifest.checks:
        if check.remark:
            yield check.name, printable(check.remark)
    limited = [check for check in manifest.checks if check.holds is not None]
    missed = [check.name for check in limited if not check.holds]
    yield "verdict", f"missed: {', '.join(missed)}" if missed else f"all {len(limited)} limits hold"
