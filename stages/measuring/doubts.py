"""Doubts about a model's answers: near chance, far under what it reached in training, nearly always the same class."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from paredown.stages.measuring.answers import Answers

GUESSING = 1.64
"""Standard deviations over what guessing has on average, under which a model cannot be told from it: 5 % of all guesses
are over that."""
WEAK = 0.15
"""Accuracy over chance as a share of what it could be (Cohen's kappa, 1960), under which something is likely wrong."""
MUCH_MORE = 5
"""So many times what guessing has is not called little better than guessing."""
FEW_IMAGES = 20
"""With fewer images than these nothing is said."""
CONSTANT = 0.95
"""Share of images with one and the same answer from which on it counts as constant."""
GAP = 4
"""So many times more over chance in training than elsewhere: networks that overfit keep more than that."""
FEW_MOVED = 10
"""Images that must be answered alike in two or more classes before another order of them is told."""
MOST_CLASSES = 2000
"""Up to which another order of them is looked for."""

_CAUSES = (
    "usual causes: mean and std, crop_mode or image_size unlike in training, channels as BGR, classes in another order"
)


def doubts(answers: Answers, classes: Sequence[str], split: str, training: Answers | None = None) -> list[str]:
    """Lines on why the answers on a split may not be what the model can do; none where nothing is odd.

    `training` are answers on images that the model may have been trained on; `is_weak` says where they matter.
    """
    if len(answers.labels) < FEW_IMAGES or len(set(answers.labels.tolist())) < 2 or answers.unanswered:
        return []
    lines = [*_constant(answers, classes, split)] or [*_near_chance(answers, split)]
    lines += _gap(answers, split, training)
    order = [*_other_order(answers, classes, split)]
    if lines and not order:
        lines[-1] += f"; {_CAUSES}"
    return lines + order


def is_weak(answers: Answers) -> bool:
    """Whether so little is over chance that what the model has on images of its training says more."""
    return _over_chance(answers) < 1 / GAP


def _chance(answers: Answers) -> float:
    """How often guesses are right that answer each class as often as the model does, 0 to 1."""
    answered, real = _counts(answers)
    return float(answered @ real) / len(answers.labels) ** 2


def _counts(answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every class how often it was answered, and how many images are of it, (classes,) each."""
    kinds = answers.logits.shape[1]
    answered = np.bincount(answers.classes[answers.finite], minlength=kinds).astype(np.float64)
    return answered, np.bincount(answers.labels, minlength=kinds).astype(np.float64)


def _over_chance(answers: Answers) -> float:
    """Accuracy over chance as a share of what there is to have over it: 1 is all right, 0 is guessing."""
    chance = _chance(answers)
    return (answers.accuracy / 100 - chance) / max(1 - chance, 1e-9)


def _near_chance(answers: Answers, split: str) -> Iterator[str]:
    images, chance = len(answers.labels), _chance(answers)
    shown = f"{answers.accuracy:.2f} % of {images} {split} images are right"
    if _may_be_guessed(answers):
        yield f"near chance: {shown}, which cannot be told from guessing ({100 * chance:.2f} %)"
    elif _over_chance(answers) < WEAK:
        little = answers.accuracy / 100 < MUCH_MORE * chance
        words = f"is little better than guessing ({100 * chance:.2f} %)" if little else "is little"
        yield f"near chance: {shown}, which {words}"


def _may_be_guessed(answers: Answers) -> bool:
    """Whether the same answers, dealt out to the images at random, would be right as often.

    How often those are right has a mean and a variance in closed form (Fleiss, Cohen and Everitt 1969), which also hold
    where nearly all images are of one class.
    """
    answered, real = _counts(answers)
    n = len(answers.labels)
    by_chance = float(answered @ real)
    variance = by_chance**2 + n**2 * by_chance - n * float((answered * real) @ (answered + real))
    most = by_chance / n + GUESSING * math.sqrt(max(variance, 0.0) / (n**2 * (n - 1)))
    return int((answers.classes == answers.labels).sum()) - 0.5 < most


def _constant(answers: Answers, classes: Sequence[str], split: str) -> Iterator[str]:
    """A line where nearly all images have one answer, and twice as many others as that leaves are of other classes."""
    answered = np.bincount(answers.classes, minlength=answers.logits.shape[1])
    first, images = int(answered.argmax()), len(answers.labels)
    share, real = answered[first] / images, float((answers.labels == first).mean())
    if share >= CONSTANT and 1 - real > 2 * (1 - CONSTANT):
        yield (
            f"constant: {100 * share:.2f} % of {images} {split} images are answered {classes[first]!r}, and "
            f"{100 * real:.2f} % are of that class"
        )


def _gap(answers: Answers, split: str, training: Answers | None) -> Iterator[str]:
    if training is None or len(training.labels) < FEW_IMAGES or training.unanswered:
        return
    # Where images are few a gap is chance too: three standard errors of the smaller split.
    noise = 3 * 0.5 / math.sqrt(min(len(answers.labels), len(training.labels)))
    learnt, shown = _over_chance(training), _over_chance(answers)
    if learnt > max(GAP * shown, shown + noise):
        yield (
            f"far under its own training: {answers.accuracy:.2f} % of {len(answers.labels)} {split} images are right, "
            f"and {training.accuracy:.2f} % of {len(training.labels)} training images"
        )


def _other_order(answers: Answers, classes: Sequence[str], split: str) -> Iterator[str]:
    """A line where most images of each of several classes are answered as one other class, each as its own.

    The other class is that of the best one-to-one assignment (Kuhn 1955), so that no class that is answered for
    everything, or confused with one that is right itself, counts as moved.
    """
    table, images = _confusion(answers), len(answers.labels)
    if len(table) > MOST_CLASSES:
        return
    rows, columns = linear_sum_assignment(table, maximize=True)
    hits, sizes = table[rows, columns], table.sum(1)
    moved = (rows != columns) & (hits >= 3) & (2 * hits > sizes)
    if moved.sum() < 2 or hits[moved].sum() < FEW_MOVED:
        return
    pairs = list(zip(rows[moved].tolist(), columns[moved].tolist(), strict=True))[:3]
    few = ", ".join(f"{classes[row]!r} are answered {classes[column]!r}" for row, column in pairs)
    right, instead = np.trace(table) / images, (np.trace(table[np.ix_(~moved, ~moved)]) + hits[moved].sum()) / images
    yield (
        f"the model may have its classes in another order: {split} images of {few}; with {moved.sum()} classes in that "
        f"order {100 * instead:.2f} % would be right in place of {100 * right:.2f} %; data.classes fixes it"
    )


def _confusion(answers: Answers) -> NDArray[np.int64]:
    """(classes, classes): how many images of each class were answered as each."""
    kinds = answers.logits.shape[1]
    table = np.zeros((kinds, kinds), np.int64)
    np.add.at(table, (answers.labels, answers.classes), 1)
    return table
