"""Where a report's numbers come from: what was measured on what, how often, and with which clock."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from paredown.pipeline.report.svg import short_number
from paredown.pipeline.run.run_folder import RunFolder
from paredown.stages.limits import CACHES_IN_WORDS
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.parity import Parity
from paredown.stages.transforms.loading import transform_of

Fact = tuple[str, str]
CLASSES = 12
"""Class names that are listed; of more classes only their number is given."""


def provenance_facts(run: RunFolder) -> list[tuple[str, list[Fact]]]:
    """(heading, facts) in the order in which they are read; headings without facts are left out."""
    manifest = run.manifest
    before = manifest.baseline if manifest else run.baseline
    after = manifest.artifact if manifest else None
    parity = manifest.parity if manifest else run.parity
    groups = [
        ("Machine and runtime", [*_target(manifest), *_machine(before)]),
        ("Latency", [*_clock(manifest), *_timed("original", before), *_timed("artifact", after)]),
        ("Size and memory", _bytes(before)),
        ("Accuracy", [*_images(before), *_scores("original", before), *_scores("artifact", after)]),
        ("Int8", [*_quantization(manifest)]),
        ("Parity of artifact and torch", [*_parity(parity)]),
        ("Data", [*_data(manifest)]),
        ("Versions and digests", [*_versions(manifest)]),
    ]
    return [(heading, listed) for heading, listed in groups if listed]


def _target(manifest: Manifest | None) -> Iterator[Fact]:
    if manifest:
        target = manifest.target
        yield "model", manifest.model.source
        load = f"{_count(target.threads, 'thread')}, batch {target.batch}, {target.caches} caches"
        yield "target", f"{target.runtime}, {load}"


def _machine(measured: Evidence | None) -> Iterator[Fact]:
    if measured:
        yield "runtime", measured.runtime
        yield from measured.machine.items()


def _clock(manifest: Manifest | None) -> Iterator[Fact]:
    one = "CPU time of the thread that computes: waiting for a core does not count"
    many = "wall-clock time"
    if manifest is None:
        yield "clock", f"with one thread {one}; with several {many}"
        return
    yield "clock", one if manifest.target.threads == 1 else many
    yield "caches", f"{manifest.target.caches}: {CACHES_IN_WORDS[manifest.target.caches]}"
    if other := manifest.other_caches:
        runs = f"{_count(other.before.runs, 'run')} of each model in {_count(other.before.rounds, 'round')}"
        yield f"{other.caches} caches", f"{CACHES_IN_WORDS[other.caches]}; {runs}, and no limit is about them"
    yield (
        "p50 of the artifact",
        (
            "the original's p50 times their ratio, its mean over rounds without the outer fifths; both models take "
            "turns in fresh sessions, so that a drifting machine cancels out"
        ),
    )
    if ends := manifest.ratios.latency_p50_ends:
        yield (
            "p50 of the artifact over the original's",
            f"between {ends[0]:.3f}x and {ends[1]:.3f}x, 99 times in a hundred",
        )


def _timed(whose: str, measured: Evidence | None) -> Iterator[Fact]:
    if measured is None or measured.latency is None:
        return
    latency = measured.latency
    runs = f"{_count(latency.runs, 'timed run')} in {_count(latency.rounds, 'round')}"
    spread = f"the p50 of the rounds spreads over {short_number(latency.spread)} ms"
    share = f"({100 * latency.spread / latency.p50:.1f} %)"
    beyond = max(1, round(latency.runs * 0.05))
    tail = f"the p95 rests on the slowest {_count(beyond, 'run')}"
    yield (
        whose,
        f"p50 {short_number(latency.p50)} ms, p95 {short_number(latency.p95)} ms from {runs}; {tail}; {spread} {share}",
    )


def _bytes(measured: Evidence | None) -> list[Fact]:
    if measured is None:
        return []
    memory = "resident memory at its peak in a fresh process that loads the model and runs it once, runtime included"
    return [("size", "bytes of the ONNX file; 1 MiB is 1 048 576 bytes"), ("peak memory", memory)]


def _images(measured: Evidence | None) -> Iterator[Fact]:
    if measured:
        yield from ((f"{split} images", f"{count}") for split, count in measured.images.items())
        yield "±", "one standard error, from the number of images"


def _scores(whose: str, measured: Evidence | None) -> Iterator[Fact]:
    """Accuracies with their binomial standard error, which says how many digits mean something."""
    if measured is None:
        return
    for split, points in measured.accuracy.items():
        share, count = points / 100, measured.images[split]
        error = 100 * math.sqrt(share * (1 - share) / count)
        yield f"{whose} on {split}", f"{points:.2f} % ± {error:.2f}"


def _quantization(manifest: Manifest | None) -> Iterator[Fact]:
    """Of a plan that had int8 to choose: who calibrated it, and what tuning left in fp32."""
    if manifest is None or not any(transform_of(site).FEATURE == "int8" for site in manifest.plan):
        return
    engine = manifest.quantization
    if engine:
        yield "calibrated by", " ".join(str(engine[name]) for name in ("engine", "version") if name in engine)
    if "trials" in engine:
        tried = ", ".join(f"{100 * one['top1']:.2f} % with {one['fp32']} in fp32" for one in engine["trials"])
        original = f"the original {100 * engine['original_top1']:.2f} %"
        yield "tuning", f"top-1 on {engine['images']} validation images: {original}; {tried}"
        yield "left in fp32", ", ".join(engine["fp32"]) or "no layer"


def _parity(parity: Parity | None) -> Iterator[Fact]:
    if parity is None:
        return
    images = " of validation images" if parity.images is None else f" of {parity.images} validation images"
    yield "same answer", f"on {100 * parity.agreement:.2f} %{images}; under {100 * parity.limit:g} % a run says so"
    yield "mean difference", f"{short_number(parity.mean_difference)} per logit"
    if parity.difference is not None and parity.rounding is not None and parity.difference_limit is not None:
        share, rounding, most = (100 * one for one in (parity.difference, parity.rounding, parity.difference_limit))
        alone = f"rounding alone makes {rounding:.2f} %, and {most:.2f} % are allowed"
        yield "difference of the logits", f"{share:.2f} % of their spread; {alone}"


def _data(manifest: Manifest | None) -> Iterator[Fact]:
    if manifest is None:
        return
    data = manifest.data
    if data.source:
        yield "source", data.source
    names = data.classes
    yield "classes", f"{len(names)}" + (f": {', '.join(names)}" if len(names) <= CLASSES else "")
    yield "images", ", ".join(f"{split} {count}" for split, count in data.images.items())
    yield "licence", data.licence or "not told"


def _versions(manifest: Manifest | None) -> Iterator[Fact]:
    if manifest:
        yield "paredown", manifest.paredown
        if manifest.versions:
            yield "packages", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        yield from ((f"sha256 of {name}", digest) for name, digest in manifest.sha256.items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class RuntimeComparison:
    """One runtime: p50 of the original in ms, and the artifact's paired ratio to it."""

    runtime: str
    before: float
    ratio: float

    @property
    def after(self) -> float:
        """The artifact's p50 in ms, as in the table of limits: the ratio times the original's."""
        return self.before * self.ratio


def runtime_comparisons(run: RunFolder) -> tuple[RuntimeComparison, ...]:
    """The target's runtime first, then the others; nothing where the recipe compares none."""
    manifest = run.manifest
    if manifest is None or not manifest.compare or manifest.baseline.latency is None:
        return ()
    target = RuntimeComparison(manifest.baseline.runtime, manifest.baseline.latency.p50, manifest.ratios.latency_p50)
    return (target, *(RuntimeComparison(other.runtime, other.before.p50, other.ratio) for other in manifest.compare))


def fastest_runtime(runtimes: tuple[RuntimeComparison, ...]) -> str:
    """Where the artifact is fastest, and what the table does not show."""
    fastest = min(runtimes, key=lambda one: one.after)
    return (
        f"The artifact is fastest on {fastest.runtime}: {short_number(fastest.after)} ms. The plan was made for the "
        "target's "
        f"runtime, {runtimes[0].runtime}; one made for another may be faster there. On each of them original and "
        "artifact took turns, with the target's threads and batch."
    )
