"""Checks that need images: accuracy, how often the model answers as its baseline does, and that it answers at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from paredown.models.errors import InputError
from paredown.models.onnx.answers import listed_outputs, outputs_of
from paredown.models.onnx.checked_file import open_checked
from paredown.models.progress import Progress
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.gate.outcome import WARNING, BudgetCheck
from paredown.pipeline.gate.told_input import input_difference
from paredown.stages.measuring.accuracy import Answers, FileAnswers
from paredown.stages.measuring.doubts import doubts
from paredown.stages.measuring.proportions import accuracy_change, accuracy_ends, resolution
from paredown.stages.products.interval import Ends
from paredown.stages.runtimes.base import Load, Runtime


@dataclass(frozen=True)
class QualityEvidence:
    """Checks of what the models answered, and lines on what is odd about the answers or the images."""

    checks: tuple[BudgetCheck, ...] = ()
    facts: tuple[str, ...] = ()


def quality_checks(
    gates: Gates, runtime: Runtime, model: Path, baseline: Path | None, progress: Progress
) -> QualityEvidence:
    """Checks on the test split, which is the same one for the same seed; nothing is drawn or trained here.

    Raises InputError for a file whose outputs do not fit the classes of the images, before anything is run, and for a
    baseline whose logits are not finite.
    """
    from paredown.models.data.opening import open_data

    assert gates.data is not None
    with TemporaryDirectory() as cache:
        data = open_data(gates.data, gates.root, Path(cache), gates.seed)
        files = read_files([file for file in (model, baseline) if file], data.classes, gates.output)
        answers: list[Answers] = []
        for file in files:
            progress("gate: accuracy", len(answers), len(files))
            answers.append(file.on(data, data.test, runtime, Load.of(gates.target)))
    after, before = answers[0], answers[1] if baseline else None
    if before and before.unanswered and not after.unanswered:
        raise InputError(f"{baseline}: {before.not_finite('test')}; such a baseline says nothing of the model")
    checks = answer_checks(gates, after, before, data.classes)
    resolved = [line for line in [untold_drop(gates, after, before)] if line]
    if note := input_difference(model, gates.data):
        checks = (replace(check, because=f"{check.because}; {note}") for check in checks)
    odd = {"baseline": before, "model": after}
    lines = [f"{name}: {line}" for name, one in odd.items() if one for line in doubts(one, data.classes, "test")]
    return QualityEvidence(tuple(checks), tuple(f"{WARNING}{line}" for line in (*data.notes, *lines, *resolved)))


def read_files(files: Sequence[Path], classes: Sequence[str], output: str | None) -> list[FileAnswers]:
    """Which output of each file holds the scores. A file that has only one output need not call it `output`, as long as
    another file does. Raises InputError where one does not fit, or where no file has that output."""
    if output is None:
        return [FileAnswers.read(file, classes) for file in files]
    outputs = {file: outputs_of(open_checked(file)) for file in files}
    having = [file for file, some in outputs.items() if output in [one.name for one in some]]
    if not having:
        raise InputError(f"output: {files[0]} has no output {output!r}; it has {listed_outputs(outputs[files[0]])}")
    picked = {file: output if file in having or len(some) > 1 else None for file, some in outputs.items()}
    return [FileAnswers.read(file, classes, picked[file]) for file in files]


def answer_checks(
    gates: Gates, after: Answers, before: Answers | None, classes: Sequence[str]
) -> Iterator[BudgetCheck]:
    """Checks of what both models answered, each with its interval, which more images would make narrower. The verdict
    is that of the value itself."""
    budgets, got, images = gates.budgets, after.accuracy, len(after.labels)
    yield from _faults(after, classes)
    on, ends = f"on {images} test images", accuracy_ends(got, images, gates.confidence)
    if budgets.accuracy is not None:
        check = _at_least("accuracy", f"{budgets.accuracy:g} %", None, got, budgets.accuracy, f"{on}{_between(ends)}")
        yield replace(check, after_ends=ends)
    if before is None:
        return
    if budgets.accuracy_drop is not None:
        change, floor = accuracy_change(before, after, gates.confidence), before.accuracy - budgets.accuracy_drop
        limit = f"{budgets.accuracy_drop:g} points under the baseline"
        points, only = change.points, f"only the baseline is right on {change.lost}, only the model on {change.gained}"
        why = f"{on}, {only}: {points.value:+.2f} points{_between(points.ends)}"
        check = _at_least("accuracy", limit, before.accuracy, got, floor, why)
        yield replace(check, after_ends=ends, change=points)
    if budgets.parity is not None:
        same = 100 * after.agreement(before)
        ends = accuracy_ends(same, images, gates.confidence)
        why = f"same answers {on}{_between(ends)}"
        check = _at_least("parity", f"{100 * budgets.parity:g} %", None, same, 100 * budgets.parity, why)
        yield replace(check, after_ends=ends)


def _between(ends: Ends) -> str:
    return f" ({ends[0]:.2f} to {ends[1]:.2f})"


def untold_drop(gates: Gates, after: Answers, before: Answers | None) -> str:
    """What the test images cannot tell of the budget on a drop of accuracy; empty where they can, or nothing asks."""
    points = gates.budgets.accuracy_drop
    if before is None or points is None:
        return ""
    change = accuracy_change(before, after, gates.confidence)
    told = resolution(points, change.images, change.discordance_seen, gates.confidence)
    return told and f"accuracy: {told}, with {100 * gates.confidence:g} % confidence"


def _faults(after: Answers, classes: Sequence[str]) -> Iterator[BudgetCheck]:
    """A failed check for logits that are not finite, and for one answer to all images; a sound model has neither."""
    if after.unanswered:
        because = after.not_finite("test")
        yield BudgetCheck("finite answers", "deterministic", "all", "", None, None, None, "fail", because)
    if (only := after.only_class) is not None:
        others = int((after.labels != only).sum())
        because = f"it answers {classes[only]!r} for all {len(after.labels)} test images, {others} of them of others"
        yield BudgetCheck("different answers", "deterministic", "2 or more", "", None, 1, None, "fail", because)


def _at_least(name: str, limit: str, before: float | None, after: float, allowed: float, because: str) -> BudgetCheck:
    holds = after >= allowed - 1e-9
    return BudgetCheck(
        name, "deterministic", limit, "%", before, after, allowed, "pass" if holds else "fail", because, least=True
    )
