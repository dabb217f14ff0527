"""Promises of accuracy, checked on the recipe's images where they are still there, or on others that a person names."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data, open_data, open_test_images
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError, MissingError
from paredown.models.loading.spec import is_code
from paredown.models.progress import Progress
from paredown.pipeline.gate.outcome import Verdict
from paredown.pipeline.gate.timed import verdict_of
from paredown.pipeline.promises.measured import NEEDS_ORIGINAL
from paredown.pipeline.promises.promise import Promise
from paredown.pipeline.promises.shipped import Shipped, validated
from paredown.stages.measuring.accuracy import Answers, FileAnswers
from paredown.stages.measuring.doubts import doubts
from paredown.stages.measuring.limit_checks import ROUNDING
from paredown.stages.measuring.proportions import accuracy_change
from paredown.stages.products.documents import plain_data
from paredown.stages.products.interval import Interval
from paredown.stages.runtimes.base import Load, Runtime

NAME = "test accuracy"
_FRAMING = ("crop_mode", "crop_pct", "interpolation", "exif", "mean", "std")


@dataclass(frozen=True)
class TestImages:
    """Images to test on; `same` says whether they are the very test split that the manifest's numbers are of."""

    data: ImageData
    same: bool

    @property
    def words(self) -> str:
        which = "the recipe's own test images" if self.same else "test images that the manifest does not name"
        return f"{len(self.data.test):,} {which}"


def accuracy_promise(
    shipped: Shipped, runtime: Runtime, data: str | None, cache: Path, progress: Progress
) -> tuple[Promise, list[str]]:
    """What is promised of accuracy, and lines on what is odd about images or answers. `data` is a source of images as
    in a recipe; None stands for the recipe's own. They are decoded into `cache`.

    Raises InputError for a source that somebody named and that cannot be used, and for files that do not fit the
    classes.
    """
    images = _named_images(shipped, data, cache, progress) if data else _own_images(shipped, cache, progress)
    if isinstance(images, str):
        return _unchecked(shipped, images), []
    classes, load = shipped.manifest.data.classes, Load.of(shipped.target)
    files = [file for file in (shipped.model, shipped.original) if file]
    answers = list[Answers]()
    for file in [FileAnswers.read(file, classes) for file in files]:
        progress("verify: accuracy", len(answers), len(files))
        answers.append(file.on(images.data, images.data.test, runtime, load))
    odd = [f"{images.words}: {line}" for line in images.data.notes] + doubts(answers[0], classes, "test")
    return _judged(shipped, images, answers[0], answers[1] if len(answers) > 1 else None), odd


def _named_images(shipped: Shipped, source: str, cache: Path, progress: Progress) -> TestImages:
    """Images that a person names: their test split, or all of them; framed as the manifest says."""
    told = shipped.manifest.input
    if told is None or not told.shape:
        raise InputError("the manifest does not say how the model wants its images, so --data cannot be used")
    framing = {name: value for name, value in plain_data(told).items() if name in _FRAMING and value is not None}
    written = {
        "source": source,
        "image_size": told.shape[-1],
        "classes": list(shipped.manifest.data.classes),
        **framing,
    }
    return TestImages(open_test_images(validated(DataSpec, written, "--data"), Path.cwd(), cache, progress), same=False)


def _own_images(shipped: Shipped, cache: Path, progress: Progress) -> TestImages | str:
    """The recipe's images, or why they cannot be used. A manifest may come from anybody: code in it is not run."""
    record, needed = shipped.manifest.data, "needs the images: --data FOLDER"
    if not record.spec or shipped.manifest.seed is None:
        return needed
    spec, root = validated(DataSpec, record.spec, "the manifest's data"), Path.cwd()
    if is_code(spec.source) or ".py:" in spec.source:
        return f"needs the images, which code makes that a manifest may not run: --data {spec.source}"
    try:
        if fingerprint_data(spec, root, shipped.manifest.seed) != record.fingerprint:
            return f"{needed} ({spec.source} holds others now)"
        return TestImages(open_data(spec, root, cache, shipped.manifest.seed, progress), same=True)
    except (InputError, MissingError) as error:
        return f"{needed} ({error})"


def _unchecked(shipped: Shipped, reason: str) -> Promise:
    drop, told = shipped.limits.accuracy_drop, _told(shipped)
    limit = "" if drop is None else f"{drop:g} points"
    return Promise(NAME, "not checked", limit, "points", drop, told=told, measure="%", because=reason)


def _told(shipped: Shipped) -> float | None:
    """Points that the manifest says were lost on the run's test split."""
    manifest = shipped.manifest
    before, after = (one.accuracy.get("test") for one in (manifest.baseline, manifest.artifact))
    return None if before is None or after is None else before - after


def _judged(shipped: Shipped, images: TestImages, after: Answers, before: Answers | None) -> Promise:
    """Points lost. Of the run's own images the promise is about these, and exact; of others it is about their kind, and
    their interval must hold it."""
    drop = shipped.limits.accuracy_drop
    limit = "" if drop is None else f"{drop:g} points"
    known = Promise(NAME, "no limit", limit, "points", drop, told=_told(shipped), measure="%", after=after.accuracy)
    if before is None:
        return _judged_alone(shipped, images, known)
    change = accuracy_change(before, after, shipped.confidence).points
    lost = Interval(-change.value, -change.high, -change.low)
    known = replace(known, before=before.accuracy, value=lost.value, ends=lost.ends)
    on = f"{lost.value:.2f} points lost ({lost.low:.2f} to {lost.high:.2f}) on {images.words}"
    if drop is None:
        return replace(known, because=on)
    most = lost.high if shipped.limits.confidence else lost.value
    finding = _within(most, drop) if images.same else verdict_of(lost, drop)
    return replace(known, finding=finding, because=f"{on} where {drop:g} are allowed")


def _judged_alone(shipped: Shipped, images: TestImages, known: Promise) -> Promise:
    """Without the original: on the run's own images against the accuracy that the manifest says it had there. What
    only its answers image by image could prove, the end of an interval, stays open."""
    drop, was = shipped.limits.accuracy_drop, shipped.manifest.baseline.accuracy.get("test")
    if not images.same or was is None or known.after is None:
        return replace(known, finding="no limit" if drop is None else "not checked", because=NEEDS_ORIGINAL)
    lost = was - known.after
    on = f"{lost:.2f} points lost on {images.words}, where the manifest says that the original had {was:.2f} %"
    if drop is None:
        return replace(known, value=lost, because=on)
    finding, why = _within(lost, drop), f"{on}; {drop:g} are allowed"
    if finding == "pass" and shipped.limits.confidence:
        return replace(known, value=lost, finding="not checked", because=f"{why}; its interval {NEEDS_ORIGINAL}")
    return replace(known, value=lost, finding=finding, because=why)


def _within(lost: float, drop: float) -> Verdict:
    return "pass" if lost <= drop + ROUNDING else "fail"


def agreement_promise(shipped: Shipped) -> Promise:
    """How often the file answers as the trained network did, which only its code and weights could show."""
    because = "with the trained network: that needs its code and weights in torch, which are not part of an artifact"
    told = 100 * shipped.manifest.parity.agreement
    return Promise("agreement", "not checked", unit="%", told=told, because=because)


def limits_not_checked(shipped: Shipped, because: str) -> Iterator[Promise]:
    """All limits, of a file that is not worth measuring."""
    limits = shipped.limits
    bounds = {
        "latency p50": limits.latency_p50,
        "latency p95": limits.latency_p95,
        "size": limits.size,
        "peak memory": limits.peak_memory,
    }
    for name, bound in bounds.items():
        if bound:
            yield Promise(name, "not checked", str(bound), because=because)
    if limits.accuracy_drop is not None:
        yield _unchecked(shipped, because)
