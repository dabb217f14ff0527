"""Checks that need images: accuracy, and how often the model answers as its baseline does."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from paredown.models.progress import Progress
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.gate.outcome import BudgetCheck
from paredown.stages.measuring.accuracy import accuracy
from paredown.stages.runtimes.base import Runtime

Answers = NDArray[np.int64]
"""Class of every image."""


def quality_checks(
    gates: Gates, runtime: Runtime, model: Path, baseline: Path | None, progress: Progress
) -> Iterator[BudgetCheck]:
    """Checks on the test split, which is the same one for the same seed; nothing is drawn or trained here."""
    from paredown.models.data.opening import open_data

    assert gates.data is not None
    with TemporaryDirectory() as cache:
        data, target = open_data(gates.data, gates.root, Path(cache), gates.seed), gates.target

        def answers(file: Path) -> Answers:
            progress("gate: accuracy", 0, 1)
            images = (batch for batch, _ in data.batches(data.test, target.batch))
            return np.asarray(runtime.run(file, images, target.threads).argmax(1))

        after, labels = answers(model), np.array(data.test.labels)
        before = answers(baseline) if baseline else None
    yield from answer_checks(gates, after, before, labels)


def answer_checks(gates: Gates, after: Answers, before: Answers | None, labels: Answers) -> Iterator[BudgetCheck]:
    """Checks of what both models answered; an accuracy says its standard error, which more images would lower."""
    budgets, got = gates.budgets, accuracy(after, labels)
    error = 100 * float(np.sqrt(got / 100 * (1 - got / 100) / len(labels)))
    on = f"on {len(labels)} test images, standard error {error:.2f}"
    if budgets.accuracy is not None:
        yield _at_least("accuracy", f"{budgets.accuracy:g} %", None, got, budgets.accuracy, on)
    if before is None:
        return
    if budgets.accuracy_drop is not None:
        was = accuracy(before, labels)
        floor = was - budgets.accuracy_drop
        yield _at_least("accuracy", f"{budgets.accuracy_drop:g} points under the baseline", was, got, floor, on)
    if budgets.parity is not None:
        same = 100 * float((after == before).mean())
        yield _at_least("parity", f"{100 * budgets.parity:g} %", None, same, 100 * budgets.parity, f"same answers {on}")


def _at_least(name: str, limit: str, before: float | None, after: float, allowed: float, because: str) -> BudgetCheck:
    holds = after >= allowed - 1e-9
    return BudgetCheck(
        name, "deterministic", limit, "%", before, after, allowed, "pass" if holds else "fail", because, least=True
    )
