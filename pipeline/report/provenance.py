"""Where a report's numbers come from: what was measured on what, how often, and with which clock."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paredown.pipeline.report.svg import short
from paredown.pipeline.run.run_folder import RunFolder

Fact = tuple[str, str]
CLASSES = 12
"""Class names that are listed; of more classes only their number is told."""


def facts(run: RunFolder) -> list[tuple[str, list[Fact]]]:
    """(heading, facts) in the order in which they are read; headings without facts are left out."""
    manifest = run.document("artifact")
    before = manifest.get("baseline") or run.document("baseline")
    after = manifest.get("artifact") or {}
    groups = [
        ("Machine and runtime", [*_target(manifest), *_machine(before)]),
        ("Latency", [*_clock(manifest), *_timed("original", before), *_timed("artifact", after)]),
        ("Size and memory", _bytes(before)),
        ("Accuracy", [*_images(before), *_scores("original", before), *_scores("artifact", after)]),
        ("Int8", [*_quantization(manifest)]),
        ("Parity of artifact and torch", [*_parity(manifest.get("parity") or run.document("exported"))]),
        ("Data", [*_data(manifest.get("data") or {})]),
        ("Versions and digests", [*_versions(manifest)]),
    ]
    return [(heading, listed) for heading, listed in groups if listed]


def _target(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    model, target = manifest.get("model"), manifest.get("target")
    if model:
        yield "model", str(model["source"])
    if target:
        yield "target", f"{target['runtime']}, {_count(target['threads'], 'thread')}, batch {target['batch']}"


def _machine(measured: Mapping[str, Any]) -> Iterator[Fact]:
    if measured:
        yield "runtime", measured["runtime"]
        yield from ((name, str(value)) for name, value in measured["machine"].items())


def _clock(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    threads = (manifest.get("target") or {}).get("threads")
    one = "CPU time of the thread that computes: waiting for a core does not count"
    many = "wall-clock time"
    yield "clock", f"with one thread {one}; with several {many}" if threads is None else one if threads == 1 else many
    if manifest:
        yield (
            "p50 of the artifact",
            (
                "the original's p50 times their ratio, its mean over rounds without the outer fifths; both models take "
                "turns in fresh sessions, so that a drifting machine cancels out"
            ),
        )
    if ends := (manifest.get("ratios") or {}).get("latency_p50_ends"):
        yield (
            "p50 of the artifact over the original's",
            f"between {ends[0]:.3f}x and {ends[1]:.3f}x, 99 times in a hundred",
        )


def _timed(whose: str, measured: Mapping[str, Any]) -> Iterator[Fact]:
    found = measured.get("latency")
    if not found:
        return
    runs = f"{_count(found['runs'], 'timed run')} in {_count(found['rounds'], 'round')}"
    spread = (
        f"the p50 of the rounds spreads over {short(found['spread'])} ms ({100 * found['spread'] / found['p50']:.1f} %)"
    )
    beyond = max(1, round(found["runs"] * 0.05))
    tail = f"the p95 rests on the slowest {_count(beyond, 'run')}"
    yield whose, f"p50 {short(found['p50'])} ms, p95 {short(found['p95'])} ms from {runs}; {tail}; {spread}"


def _bytes(measured: Mapping[str, Any]) -> list[Fact]:
    if not measured:
        return []
    memory = "resident memory at its peak in a fresh process that loads the model and runs it once, runtime included"
    return [("size", "bytes of the ONNX file; 1 MiB is 1 048 576 bytes"), ("peak memory", memory)]


def _images(measured: Mapping[str, Any]) -> Iterator[Fact]:
    for split, count in (measured.get("images") or {}).items():
        yield f"{split} images", f"{count}"
    if measured:
        yield "±", "one standard error, from the number of images"


def _scores(whose: str, measured: Mapping[str, Any]) -> Iterator[Fact]:
    """Accuracies with their binomial standard error, which says how many digits mean something."""
    for split, points in (measured.get("accuracy") or {}).items():
        share, count = points / 100, measured["images"][split]
        error = 100 * math.sqrt(share * (1 - share) / count)
        yield f"{whose} on {split}", f"{points:.2f} % ± {error:.2f}"


def _quantization(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    """Of a plan that had int8 to choose: who calibrated it, and what tuning left in fp32."""
    found = manifest.get("quantization") or {}
    if not any(site.startswith("quantize:") for site in manifest.get("plan", ())):
        return
    if found:
        yield "calibrated by", " ".join(str(found[name]) for name in ("engine", "version") if name in found)
    if "trials" in found:
        tried = ", ".join(f"{100 * one['top1']:.2f} % with {one['fp32']} in fp32" for one in found["trials"])
        original = f"the original {100 * found['original_top1']:.2f} %"
        yield "tuning", f"top-1 on {found['images']} validation images: {original}; {tried}"
        yield "left in fp32", ", ".join(found["fp32"]) or "no layer"


def _parity(found: Mapping[str, Any]) -> Iterator[Fact]:
    if not found:
        return
    images = f" of {found['images']} validation images" if "images" in found else " of validation images"
    yield "same answer", f"on {100 * found['agreement']:.2f} %{images}; at least {100 * found['limit']:g} % are asked"
    yield "mean difference", f"{short(found['mean_difference'])} per logit"


def _data(found: Mapping[str, Any]) -> Iterator[Fact]:
    if not found:
        return
    if "source" in found:
        yield "source", str(found["source"])
    names = found.get("classes", [])
    yield "classes", f"{len(names)}" + (f": {', '.join(names)}" if len(names) <= CLASSES else "")
    yield "images", ", ".join(f"{split} {count}" for split, count in found.get("images", {}).items())
    yield "licence", str(found.get("licence") or "not told")


def _versions(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    if "paredown" in manifest:
        yield "paredown", str(manifest["paredown"])
    versions = manifest.get("versions") or {}
    if versions:
        yield "packages", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield from ((f"sha256 of {name}", str(digest)) for name, digest in (manifest.get("sha256") or {}).items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Line:
    """One runtime: p50 of the original in ms, and the artifact's paired ratio to it."""

    runtime: str
    before: float
    ratio: float

    @property
    def after(self) -> float:
        """The artifact's p50 in ms, as the table of limits tells it: the ratio times the original's."""
        return self.before * self.ratio


def lines(run: RunFolder) -> tuple[Line, ...]:
    """The target's runtime first, then the others; nothing where the recipe compares none."""
    manifest = run.document("artifact")
    return tuple(_lines(manifest)) if manifest.get("compare") else ()


def _lines(manifest: Any) -> Iterator[Line]:
    target = manifest["baseline"]
    yield Line(target["runtime"], target["latency"]["p50"], manifest["ratios"]["latency_p50"])
    for other in manifest["compare"]:
        yield Line(other["runtime"], other["before"]["p50"], other["ratio"])


def words(compared: tuple[Line, ...]) -> str:
    """Where the artifact is fastest, and what the table does not show."""
    fastest = min(compared, key=lambda line: line.after)
    return (
        f"The artifact is fastest on {fastest.runtime}: {short(fastest.after)} ms. The plan was made for the target's "
        f"runtime, {compared[0].runtime}; one made for another may be faster there. On each of them original and "
        "artifact took turns, with the target's threads and batch."
    )
