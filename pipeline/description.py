"""What a model is, as data and in words: of any ONNX file, and more of those that say it of themselves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from paredown.pipeline.artifact import Artifact, Essentials, Manifest

if TYPE_CHECKING:
    from paredown.models.onnx_facts import Facts

Fact = tuple[str, str]
CLASSES, OPS = 8, 8
"""Names of classes, and kinds of operators, that are listed."""


def as_data(artifact: Artifact, facts: "Facts") -> dict[str, Any]:
    """All that is known, as plain data; `essentials` and `evidence` are null where there are none."""
    graph = artifact.model.graph
    return {
        "file": str(artifact.file),
        "sha256": artifact.sha256,
        "bytes": facts.bytes,
        "opset": facts.opset,
        "inputs": [_value(one) for one in graph.input],
        "outputs": [_value(one) for one in graph.output],
        "parameters": facts.parameters,
        "macs": facts.macs,
        "ops": dict(facts.ops),
        "made_by_paredown": artifact.essentials is not None,
        "essentials": artifact.essentials and artifact.essentials.model_dump(mode="json"),
        "evidence": artifact.manifest and artifact.manifest.model_dump(mode="json"),
        "warnings": list(artifact.warnings),
    }


def lines(artifact: Artifact, facts: "Facts") -> Iterator[Fact]:
    """(label, words), the most important first."""
    yield "file", f"{artifact.file}, {facts.bytes:,} bytes"
    yield "sha256", artifact.sha256
    if artifact.essentials is None:
        yield "made by", "not made by paredown"
        yield "inputs", "; ".join(map(_value, artifact.model.graph.input))
        yield "outputs", "; ".join(map(_value, artifact.model.graph.output))
    else:
        yield from _essential(artifact.essentials)
    yield "graph", f"opset {facts.opset}, {facts.parameters:,} parameters, {_macs(facts)}"
    yield "operators", _counts(facts.ops, OPS)


def _essential(said: Essentials) -> Iterator[Fact]:
    version = f" {said.versions['paredown']}" if "paredown" in said.versions else ""
    weights = f", weights {said.model['weights']}" if "weights" in said.model else ""
    yield "made by", f"paredown{version}, from {said.model.get('source', 'a model not told')}{weights}"
    if said.recipe:
        yield "recipe", f"{said.recipe.get('name', '')}, sha256 {said.recipe.get('sha256', '')}"
    if said.input:
        yield "input", str(said.input)
    yield "classes", f"{len(said.classes)}: {', '.join(said.classes[:CLASSES])}{', …' * (len(said.classes) > CLASSES)}"
    for transform, picked in said.plan.items():
        yield transform, _counts({name: len(places) for name, places in picked.items()}, OPS)
    yield "made for", ", ".join(f"{name} {value}" for name, value in said.target.items())
    yield "limits", ", ".join(f"{name} {value}" for name, value in said.limits.items())
    yield "data", ", ".join([*(said.data[n] for n in ("source", "licence") if said.data.get(n)), _images(said)])
    yield from _quality(said)


def _images(said: Essentials) -> str:
    return "images: " + ", ".join(f"{split} {count}" for split, count in said.images.items())


def _quality(said: Essentials) -> Iterator[Fact]:
    if said.accuracy:
        for split in sorted(said.accuracy.after.keys() & said.accuracy.before.keys(), reverse=True):
            points, count = (said.accuracy.before[split], said.accuracy.after[split]), said.accuracy.images.get(split)
            yield f"{split} accuracy", f"{points[0]:.2f} -> {points[1]:.2f} % of {count} images"
    if "agreement" in said.parity:
        yield "parity", f"same answer as torch on {100 * said.parity['agreement']:.2f} % of validation images"


def _macs(facts: "Facts") -> str:
    return "multiply-adds not known" if facts.macs is None else f"{facts.macs / 1e6:,.1f} million multiply-adds"


def _counts(found: Mapping[str, int], most: int) -> str:
    listed = [f"{name} {count}" for name, count in Counter(found).most_common()]
    return ", ".join(listed[:most]) + (f", and {len(listed) - most} more" if len(listed) > most else "")


def _value(value: Any) -> str:
    """`x: 1 x 3 x 224 x 224`; sizes that are not fixed are names or ?."""
    sizes = value.type.tensor_type.shape.dim
    return f"{value.name}: {' x '.join(str(size.dim_value or size.dim_param or '?') for size in sizes)}"


def evidence_lines(manifest: Manifest) -> Iterator[Fact]:
    """On what the evidence rests."""
    measured = manifest.artifact
    yield "measured", ", ".join([f"on {measured.runtime}", *(f"{k} {v}" for k, v in measured.machine.items())])
    if timed := measured.latency:
        spread = f"their p50 spreads over {timed.spread:.3g} ms"
        yield "latency", f"{timed.runs} runs in {timed.rounds} rounds, in turns with the original; {spread}"
    limited = [check for check in manifest.checks if check.holds is not None]
    missed = [check.name for check in limited if not check.holds]
    yield "verdict", f"missed: {', '.join(missed)}" if missed else f"all {len(limited)} limits hold"
