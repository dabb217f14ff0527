"""Which of a few measured plans disturbs the network least: successive halving on ever more validation images."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch

from paredown.stages.base import State
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.solvers.problem import Choice

IMAGES = 32
"""Validation images on which the whole shortlist is judged; each half of it that is left sees twice as many."""


def disturbances(space: PlanSpace, state: State, plans: Mapping[int, Choice]) -> dict[int, float]:
    """A plan's number to what it changes of the original's answers (KL, in nats), of the plans in `plans`.

    They come in the order in which they were dropped, each with its last score: the last one is the best plan.
    """
    data = state.open_data()

    @cache
    def judge(images: int) -> TeacherComparison:
        split = data.validation.take(images, state.seed)
        batch = torch.from_numpy(next(data.batches(split, len(split)))[0])
        return TeacherComparison(space, batch)

    return successive_halving(tuple(plans), lambda number, images: judge(images).loss(plans[number]), IMAGES)


def successive_halving(names: Sequence[int], score: Callable[[int, int], float], images: int) -> dict[int, float]:
    """Successive halving to one: all are scored on so many images, the better half on twice as many, and so on.

    The last scores, the smaller the better, in the order in which their owners were dropped: the last one won.
    """
    scores: dict[int, float] = {}
    left = list(names)
    while left:
        now = {name: score(name, images) for name in left}
        left.sort(key=now.__getitem__)
        half = len(left) // 2 if len(left) > 1 else 0
        scores |= {name: now[name] for name in reversed(left[half:])}
        left, images = left[:half], images * 2
    return scores
