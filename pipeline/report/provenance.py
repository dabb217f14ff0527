"""Where a report's numbers come from: what was measured on what, how often, and with which clock."""

from collections.abc import Iterator
from dataclasses import dataclass

from paredown.pipeline.report.svg import short_number
from paredown.pipeline.report.written_measures import accuracy_in_words, with_ends
from paredown.pipeline.run.run_folder import RunFolder
from paredown.stages.limits import CACHES_IN_WORDS
from paredown.stages.measuring.proportions import wilson_ends
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.products.interval import Ends
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
        ("Intervals", [*_intervals(run)]),
        ("Latency", [*_clock(manifest), *_timed("original", before), *_timed("artifact", after)]),
        ("Size and memory", _bytes(before)),
        (
            "Accuracy",
            [*_images(before), *_scores("original", before), *_scores("artifact", after), *_changes(manifest)],
        ),
        ("Int8", [*_quantization(manifest)]),
        ("Parity of artifact and torch", [*_parity(parity, run.confidence)]),
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
    ratios = manifest.ratios
    for name, value, ends in (
        ("p50", ratios.latency_p50, ratios.latency_p50_ends),
        ("p95", ratios.latency_p95, ratios.latency_p95_ends),
    ):
        if value is not None and ends:
            yield f"{name} of the artifact over the original's", _factor(value, ends)


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
        f"p50 {with_ends(latency.p50, latency.p50_ends)} ms, p95 {with_ends(latency.p95, latency.p95_ends)} ms from "
        f"{runs}; {tail}; {spread} {share}",
    )


def _bytes(measured: Evidence | None) -> list[Fact]:
    if measured is None:
        return []
    memory = "resident memory at its peak in a fresh process that loads the model and runs it once, runtime included"
    return [("size", "bytes of the ONNX file; 1 MiB is 1 048 576 bytes"), ("peak memory", memory)]


def _images(measured: Evidence | None) -> Iterator[Fact]:
    if measured:
        yield from ((f"{split} images", f"{count}") for split, count in measured.images.items())


def _scores(whose: str, measured: Evidence | None) -> Iterator[Fact]:
    """Accuracies with their intervals, which say how many digits mean something."""
    if measured is None:
        return
    for split, points in measured.accuracy.items():
        ends = (measured.accuracy_ends or {}).get(split)
        told = with_ends(points, ends, number=lambda value: f"{value:.2f}", unit=" %")
        yield f"{whose} on {split}", told if ends else accuracy_in_words(points, measured.images[split])


def _changes(manifest: Manifest | None) -> Iterator[Fact]:
    """How the artifact's answers differ from the original's, image by image."""
    for split, change in (manifest.accuracy_change if manifest else {}).items():
        points = with_ends(
            change.points.value, change.points.ends, number=lambda value: f"{value:+.2f}", unit=" points"
        )
        only = f"of {change.images} images only the original has {change.lost} right, only the artifact {change.gained}"
        yield f"difference on {split}", f"{points}: {only}"


def _intervals(run: RunFolder) -> Iterator[Fact]:
    """What the brackets behind the numbers are."""
    measured = run.manifest.artifact if run.manifest else run.baseline
    if measured is None or measured.peak_memory_ends is None:
        return
    yield "confidence", f"{100 * run.confidence:g} %, of all intervals"
    yield (
        "times",
        "drawn again from the rounds, and from the runs within them (bootstrap); ratios are of the same round",
    )
    yield "peak memory", "the least and the most of fresh processes, as many as this confidence takes for the median"
    yield "accuracy, same answer", "Wilson's interval, from the number of images"
    yield "difference in accuracy", "Bonett and Price's, from the images that only one of the two has right"
    yield "exact", "size and operators are counted, not measured"


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


def _parity(parity: Parity | None, confidence: float) -> Iterator[Fact]:
    if parity is None:
        return
    images = " of validation images" if parity.images is None else f" of {parity.images} validation images"
    share = f"{100 * parity.agreement:.2f} %"
    if parity.images:
        low, high = wilson_ends(parity.agreement, parity.images, confidence)
        share = f"{share} ({100 * low:.2f} to {100 * high:.2f})"
    yield "same answer", f"on {share}{images}; under {100 * parity.limit:g} % a run says so"
    yield "mean difference", f"{short_number(parity.mean_difference)} per logit"
    if parity.difference is not None and parity.rounding is not None and parity.difference_limit is not None:
        part, rounding, most = (100 * one for one in (parity.difference, parity.rounding, parity.difference_limit))
        alone = f"rounding alone makes {rounding:.2f} %, and {most:.2f} % are allowed"
        yield "difference of the logits", f"{part:.2f} % of their spread; {alone}"


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
    """One runtime: p50 of original and artifact in ms, and their paired ratio, in words; and the artifact's `p50`."""

    runtime: str
    before: str
    after: str
    ratio: str
    p50: float

    @classmethod
    def of(
        cls, runtime: str, before: LatencyEvidence, after: LatencyEvidence, ratio: float, ends: Ends | None
    ) -> "RuntimeComparison":
        """The artifact's p50 is, as in the table of limits, the ratio times the original's."""
        p50 = before.p50 * ratio
        original, artifact = with_ends(before.p50, before.p50_ends), with_ends(p50, after.p50_ends)
        return cls(runtime, original, artifact, _factor(ratio, ends), p50)


def _factor(value: float, ends: Ends | None) -> str:
    return with_ends(value, ends, number=lambda number: f"{number:.3f}", unit="x")


def runtime_comparisons(run: RunFolder) -> tuple[RuntimeComparison, ...]:
    """The target's runtime first, then the others; nothing where the recipe compares none."""
    manifest = run.manifest
    if manifest is None or not manifest.compare:
        return ()
    before, after, ratios = manifest.baseline, manifest.artifact, manifest.ratios
    if before.latency is None or after.latency is None:
        return ()
    ends = ratios.latency_p50_ends
    target = RuntimeComparison.of(before.runtime, before.latency, after.latency, ratios.latency_p50, ends)
    others = (
        RuntimeComparison.of(other.runtime, other.before, other.after, other.ratio, other.ratio_ends)
        for other in manifest.compare
    )
    return (target, *others)


def fastest_runtime(runtimes: tuple[RuntimeComparison, ...]) -> str:
    """Where the artifact is fastest, and what the table does not show."""
    fastest = min(runtimes, key=lambda one: one.p50)
    return (
        f"The artifact is fastest on {fastest.runtime}: {fastest.after} ms. The plan was made for the target's "
        f"runtime, {runtimes[0].runtime}; one made for another may be faster there. On each of them original and "
        "artifact took turns, with the target's threads, batch and caches."
    )
